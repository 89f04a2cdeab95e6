"""Changes of a foreign guest's memory map on their way from the vmm to vmapp.

The client of the vfio-user socket says which of its memory the device may reach, and hands over descriptors of it.
The vmm checks them and passes them on over a SOCK_SEQPACKET socket, one change a packet, with the descriptor beside
it. vmapp takes them over in the host world, after a world switch of their own (``machine.world.REASON_DMA``): no DMA
is under way then, and when the switch is over the change is done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Final, NamedTuple

from machine.errors import LayoutError

__all__ = ["CLEAR", "MAP", "MOST_FILES", "MOST_WINDOWS", "UNMAP", "UNREACHABLE", "Change", "DmaChannel"]

MAP: Final = 1  # guest addresses are the descriptor's bytes from ``offset`` on
UNREACHABLE: Final = 2  # guest addresses that the device cannot reach; they hide what was there
UNMAP: Final = 3  # the windows wholly within the range are gone
CLEAR: Final = 4  # every window is gone; no range could say so, for one may end at the last of 2**64 addresses

MOST_WINDOWS: Final = 65535
"""At a time; the vfio-user specification's own default. QEMU has some dozens for a guest without an IOMMU, and one for
each page that a driver has mapped with one: 1,100 for a Linux guest that does no more than ping. None costs more than
some hundred bytes in vmm and vmapp each."""

MOST_FILES: Final = 256
"""Mappings at a time: windows of one file share one. Python keeps a descriptor open for each."""

_CHANGE: Final = struct.Struct("<BB6xQQQ")


class Change(NamedTuple):
    """``kind``: one of the four. ``address``, ``size``: guest addresses. The rest is MAP's."""

    kind: int
    address: int = 0
    size: int = 0
    offset: int = 0
    writable: bool = False


class DmaChannel:
    """One end of the socket, inherited as descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)

    def send(self, change: Change, fd: int | None = None) -> None:
        """Passes a change on; OSError if vmapp is gone, or has not taken over the earlier ones."""
        packet = _CHANGE.pack(change.kind, change.writable, change.address, change.size, change.offset)
        socket.send_fds(self._socket, [packet], [] if fd is None else [fd])

    def receive(self) -> tuple[Change, int | None] | None:
        """The next change and its descriptor, which is the caller's from now on; None if there is none."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._socket, _CHANGE.size, 1)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE):
                return None
            raise
        for fd in fds[1:]:
            with contextlib.suppress(OSError):
                os.close(fd)
        if not packet:
            return None
        if len(packet) != _CHANGE.size:
            raise LayoutError(f"a change of the memory map has {_CHANGE.size} bytes, not {len(packet)}")
        kind, writable, address, size, offset = _CHANGE.unpack(packet)
        return Change(kind, address, size, offset, bool(writable)), fds[0] if fds else None
