"""DMA windows as the protocol sees them: what may be mapped, how many there are, what an unmapping means."""

from __future__ import annotations

import errno
from typing import Final

from machine.ranges import Range, RangeTable
from vmm.vfiouser.device import Device
from vmm.vfiouser.messages import MAX_WINDOWS, PAGE, DmaFlag, UnmapFlag

__all__ = ["DmaWindows"]

_ADDRESSES: Final = 1 << 64  # guest addresses; one past the last
_FILE_BYTES: Final = 1 << 63  # off_t; one past the last offset
_KNOWN_FLAGS: Final = int(DmaFlag.READ | DmaFlag.WRITE)  # the complement of a flag has only known ones


def _invalid(reason: str) -> OSError:
    return OSError(errno.EINVAL, reason)


class DmaWindows:
    """Checks what a client maps and unmaps before the device hears of it. Every refusal is an OSError.

    Windows may overlap; the later one hides the earlier. The specification would have a mapping over an existing one
    refused (EEXIST); a client that maps the new before it unmaps the old, as memory is rearranged, is served here.
    """

    __slots__ = ("_device", "_windows")

    def __init__(self, device: Device) -> None:
        self._device = device
        self._windows: RangeTable[Range] = RangeTable()  # one for each mapping

    def __len__(self) -> int:
        return len(self._windows)

    def map(self, flags: int, offset: int, address: int, size: int, fd: int | None) -> None:
        """Guest addresses [address, address + size) are ``fd``'s bytes from ``offset`` on; None: no file."""
        if flags & ~_KNOWN_FLAGS or not flags:
            raise _invalid(f"flags {flags:#x}")
        if not flags & DmaFlag.READ:
            raise OSError(errno.ENOTSUP, "a window that may only be written")
        _check_range(address, size)
        if fd is not None and (offset % PAGE or offset + size > _FILE_BYTES):
            raise _invalid(f"offset {offset:#x}")
        if len(self._windows) >= MAX_WINDOWS:
            raise OSError(errno.ENOSPC, f"more than {MAX_WINDOWS} DMA windows")
        self._device.map_dma(address, size, fd, offset, writable=bool(flags & DmaFlag.WRITE))
        self._windows.add(Range(address, address + size))

    def unmap(self, flags: int, address: int, size: int) -> None:
        """Forgets the windows wholly within the range, or with the flag ALL every one."""
        if flags == UnmapFlag.ALL:
            if address or size:
                raise _invalid("all windows, and a range")
            self._device.unmap_all()
            self._windows = RangeTable()
            return
        if flags:
            raise OSError(errno.ENOTSUP, f"flags {flags:#x}")
        _check_range(address, size)
        if not self._windows.within(address, address + size):
            raise OSError(errno.ENOENT, f"no window within {address:#x} and {size:#x} bytes")
        self._device.unmap_dma(address, size)
        self._windows.take_within(address, address + size)


def _check_range(address: int, size: int) -> None:
    if size == 0 or address % PAGE or size % PAGE or address + size > _ADDRESSES:
        raise _invalid(f"a window at {address:#x} of {size:#x} bytes")
