"""A foreign guest's memory in vmapp: maps and unmaps what the client's descriptors stand for.

The vmm has checked each descriptor: it is a memory file that cannot shrink (``vmm.foreign.windows``), so that no
access to a mapping of it can raise SIGBUS.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable

from machine.dma import CLEAR, MAP, MOST_WINDOWS, UNMAP, Change, DmaChannel
from machine.memory import GuestMemory

__all__ = ["DmaWindows"]


class DmaWindows:
    """``released`` is called after each change, for whoever holds views of windows that may be gone."""

    def __init__(self, memory: GuestMemory, channel: DmaChannel, released: Callable[[], None]) -> None:
        self._memory = memory
        self._channel = channel
        self._released = released

    def take(self) -> int:
        """Takes over every change that waits; the errno of the last one that failed, or 0."""
        failure = 0
        while (received := self._channel.receive()) is not None:
            change, fd = received
            try:
                self._apply(change, fd)
            except OSError as error:
                failure = error.errno or errno.EIO
            except (ValueError, OverflowError):  # mmap: longer than the file, or than addresses
                failure = errno.EINVAL
            finally:
                if fd is not None:
                    os.close(fd)
                self._released()
        return failure

    def _apply(self, change: Change, fd: int | None) -> None:
        if change.kind == UNMAP:
            self._memory.unmap(change.address, change.size)
            return
        if change.kind == CLEAR:
            self._memory.clear()
            return
        if self._memory.windows >= MOST_WINDOWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if change.kind == MAP:
            if fd is None:  # the kernel drops a descriptor for which there is no room in this process
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            access = mmap.PROT_READ | (mmap.PROT_WRITE if change.writable else 0)
            mapping = mmap.mmap(fd, change.size, mmap.MAP_SHARED, access, offset=change.offset)
            self._memory.map(change.address, memoryview(mapping))  # unmapped with the last view of it
        else:
            self._memory.map(change.address, None, change.size)
