"""A foreign guest's memory in vmapp: maps and unmaps what the client's descriptors stand for.

The vmm has checked each descriptor: it is a memory file that cannot shrink (``vmm.foreign.windows``), so that no
access to a mapping of it can raise SIGBUS.

A guest behind an IOMMU has a window for each page that its driver has mapped, more than a thousand, and they are all
parts of one file. Neither the kernel's limit on mappings (vm.max_map_count) nor that on descriptors, of which Python
keeps one for each mapping, is to be in such a guest's way: a file is mapped once, as a whole, and windows are places
in it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from weakref import WeakValueDictionary

from machine.dma import CLEAR, MAP, MOST_FILES, MOST_WINDOWS, UNMAP, Change, DmaChannel
from machine.memory import GuestMemory

__all__ = ["DmaWindows"]

_FileKey = tuple[int, int, bool]  # device, inode, writable


class _Files:
    """Mappings of whole files, each for as long as a window has a view of it."""

    def __init__(self) -> None:
        self._views: WeakValueDictionary[_FileKey, memoryview] = WeakValueDictionary()
        self._alive: WeakValueDictionary[int, memoryview] = WeakValueDictionary()  # those, and all others
        self._number = 0  # of the newest mapping

    def bytes(self, fd: int, offset: int, size: int, *, writable: bool) -> tuple[memoryview, int]:
        """A view that has the file's bytes [offset, offset + size), and where in it they begin.

        OSError, ValueError or OverflowError if they cannot be mapped so. A mapping is not taken from another
        descriptor's rights: one that was opened for reading only makes no writable window.
        """
        if writable and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino, writable  # the inode is not used again while a mapping holds it
        view = self._views.get(key)
        if view is not None and offset + size <= len(view):
            return view, offset
        try:
            whole = self._map(fd, 0, status.st_size, writable=writable)
        except (OSError, ValueError, OverflowError):  # larger than what addresses there are, or rights are missing
            return self._map(fd, offset, size, writable=writable), 0
        if offset + size > len(whole):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._views[key] = whole  # a file that has grown is mapped anew; older windows keep what they have
        return whole, offset

    def _map(self, fd: int, offset: int, size: int, *, writable: bool) -> memoryview:
        if len(self._alive) >= MOST_FILES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        view = memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED, access, offset=offset))  # unmapped with its last view
        self._number += 1
        self._alive[self._number] = view
        return view


class DmaWindows:
    """``released`` is called after each change, for whoever holds views of windows that may be gone."""

    def __init__(self, memory: GuestMemory, channel: DmaChannel, released: Callable[[], None]) -> None:
        self._memory = memory
        self._channel = channel
        self._released = released
        self._files = _Files()

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
            view, start = self._files.bytes(fd, change.offset, change.size, writable=change.writable)
            self._memory.map(change.address, view, change.size, start)
        else:
            self._memory.map(change.address, None, change.size)
