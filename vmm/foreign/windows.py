"""The client's DMA windows: which descriptors are safe to map, and how vmapp gets them.

A file that shrinks after it was mapped raises SIGBUS in whoever touches the lost part, so only memory files that
are sealed against that are taken: memfd_create(2), fcntl(2) "File Sealing". QEMU's memory-backend-memfd seals them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

from machine import world
from machine.dma import CLEAR, MAP, UNMAP, UNREACHABLE, Change, DmaChannel
from machine.memory import ADDRESS_LIMIT
from machine.ranges import Range, RangeTable
from vmm.worldswitch import WorldSwitch

__all__ = ["ClientWindows", "check_descriptor"]


def check_descriptor(fd: int, size: int, offset: int) -> None:
    """OSError (EINVAL) unless ``fd`` holds [offset, offset + size) and cannot become shorter."""
    try:
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:
        raise OSError(errno.EINVAL, "guest memory must be a memfd sealed against shrinking") from None
    if os.fstat(fd).st_size < offset + size:  # only now: before it was sealed it could still shrink
        raise OSError(errno.EINVAL, "guest memory is shorter than its window")


class ClientWindows:
    """The windows of one client, in the vmm. Each change is a world switch of its own. ``log`` takes one line."""

    def __init__(
        self, record: memoryview, switch: WorldSwitch, channel: DmaChannel, log: Callable[[str], None]
    ) -> None:
        self._record = record
        self._switch = switch
        self._channel = channel
        self._log = log
        self._windows: RangeTable[Range] = RangeTable()
        self._refused = False

    def map(self, address: int, size: int, fd: int | None, offset: int, *, writable: bool) -> None:
        """As ``vmm.vfiouser.device.Device.map_dma``; OSError if the descriptor won't do, or vmapp cannot map it."""
        if address < ADDRESS_LIMIT:
            kind = UNREACHABLE if fd is None else MAP
            if fd is not None:
                self._check(fd, size, offset)
            self._change(Change(kind, address, size, offset, writable), fd)
        self._windows.add(Range(address, address + size))

    def _check(self, fd: int, size: int, offset: int) -> None:
        try:
            check_descriptor(fd, size, offset)
        except OSError as error:
            if not self._refused:
                self._refused = True
                self._log(f"DMA window refused: {error.strerror}")
            raise

    def unmap(self, address: int, size: int) -> int:
        """Forgets the windows wholly within the range; the number of bytes forgotten."""
        end = address + size
        if any(window.base < ADDRESS_LIMIT for window in self._windows.within(address, end)):
            self._change(Change(UNMAP, address, size), None)
        return sum(window.size for window in self._windows.take_within(address, end))

    def clear(self) -> int:
        """Forgets them all, for the next client; the number of bytes forgotten."""
        size = sum(window.size for window in self._windows)
        if self._windows:
            self._change(Change(CLEAR), None)
        self._windows = RangeTable()
        self._refused = False
        return size

    def _change(self, change: Change, fd: int | None) -> None:
        self._channel.send(change, fd)
        self._switch.run(world.REASON_DMA)
        number = self._record[world.RESULT]
        if number:
            raise OSError(number, os.strerror(number))
