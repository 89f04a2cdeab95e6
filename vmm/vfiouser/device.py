"""What a vfio-user server needs of the device behind it, and what it offers the loop that drives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

__all__ = ["Device", "Region"]


class Region(NamedTuple):
    """One region of the device: its size in bytes and whether it may be read and written. Nothing can be mapped."""

    size: int
    readable: bool = True
    writable: bool = True


class Device(Protocol):
    """A PCI device behind a socket. The session has checked region, offset and count against ``regions``.

    Every method may raise OSError, whose errno the client is told.
    """

    @property
    def regions(self) -> dict[int, Region]:
        """VFIO region index (0 to 5: BARs, 7: configuration space) -> region; absent ones have size 0.

        The session looks once, when a client connects.
        """

    def read(self, region: int, offset: int, count: int) -> bytes:
        """``count`` bytes (at least 1) from ``offset``."""

    def write(self, region: int, offset: int, data: memoryview, finish: Callable[[], None]) -> None:
        """Writes ``data`` (format "B", valid during the call) at ``offset``.

        ``finish`` sends the reply, and never raises. A device may call it before it has done all the work; if it has
        not, the session does when this returns. After it, an error can no longer be told.
        """

    def map_dma(self, address: int, size: int, fd: int | None, offset: int, *, writable: bool) -> None:
        """Guest addresses [address, address + size) are ``fd``'s bytes from ``offset`` on.

        ``fd`` stays the session's, which closes it afterwards: duplicate it or map it. None: a window that the
        device cannot reach (ROM, other devices' registers).
        """

    def unmap_dma(self, address: int, size: int) -> int:
        """Forgets the windows wholly within [address, address + size); the number of bytes forgotten."""

    def unmap_all(self) -> int:
        """Forgets every window; the number of bytes forgotten."""

    def reset(self) -> None:
        """Device reset, as PCI RST# does; DMA windows stay."""

    def interrupt_unmasked(self) -> None:
        """The client has set or unmasked the INTx trigger: a line that is up must be signalled again."""
