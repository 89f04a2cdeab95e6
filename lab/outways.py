"""How each kind of output file is written (``lab.outfile`` has the table); every failure is an OSError.

A way is found and tried when a command starts (``way_to``) and used once, perhaps minutes later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from typing import IO, Final, Protocol

from machine.descriptors import named_descriptor, write_all

__all__ = ["Sink", "Way", "way_to"]

_SPOOLED_BYTES: Final = 16 << 20  # content for a file that is written in place is gathered in memory up to this
_PROBE_BYTES: Final = 4096  # a disk that cannot take this much at the start is full
_CHUNK_BYTES: Final = 1 << 16
_PREFIX: Final = ".worldswitch-"
_SUFFIX: Final = ".partial"
_NO_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # of file systems that have nothing to say about it
_NO_RENAME: Final = (errno.EBUSY, errno.EXDEV)  # the target is a mount point
_NO_ALLOCATION: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV)


class Sink(Protocol):
    """What content is written to."""

    def write(self, data: bytes, /) -> object:
        """Adds to the content."""


class Way(Protocol):
    """How one kind of target is written; any of it may raise OSError."""

    def begin(self) -> Sink:
        """What the new content is written to."""

    def finish(self) -> None:
        """The content is complete: it becomes the target's."""

    def abandon(self) -> None:
        """The content is not complete: nothing of it stays, where that is possible. Also after ``finish`` failed."""

    def close(self) -> None:
        """Gives back what was opened at the start; harmless twice."""


def way_to(path: str) -> Way:
    """How ``path`` will be written; OSError if it can't."""
    number = named_descriptor(path)
    if number is not None:
        return _Stream(os.dup(number))
    target = os.path.realpath(path)
    try:
        found = os.stat(target)
    except FileNotFoundError:
        if path.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        return _Replaced(target, None)
    if not stat.S_ISREG(found.st_mode):
        return _Stream(_open_special(target, found.st_mode))
    fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC)  # the kernel's own word on whether it may be written
    try:
        if _may_be_replaced(target, found):
            with contextlib.suppress(PermissionError):  # if no new name may be made beside it
                replaced = _Replaced(target, found)
                os.close(fd)
                return replaced
        return _InPlace(fd)
    except OSError:
        os.close(fd)
        raise


def _may_be_replaced(target: str, found: os.stat_result) -> bool:
    """Whether another file may take this one's name without anybody's noticing more than the new content."""
    own = os.geteuid() == 0 or (found.st_uid == os.geteuid() and found.st_gid in (os.getegid(), *os.getgroups()))
    return own and found.st_nlink == 1 and found.st_dev == os.stat(os.path.dirname(target)).st_dev


def _open_special(target: str, mode: int) -> int:
    """A device or a FIFO. A FIFO that nobody reads would make the open wait for ever: that is said instead."""
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(mode):
            raise OSError(errno.ENXIO, "nobody reads this FIFO; start its reader first") from None
        if error.errno == errno.ENXIO and stat.S_ISSOCK(mode):
            raise OSError(errno.ENXIO, "it is a socket") from None
        raise
    os.set_blocking(fd, True)  # our own open file: nobody else notices
    return fd


class _Stream:
    """A descriptor that is written to, as it comes; what has gone out can't be taken back."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting = bytearray()

    def begin(self) -> Sink:
        return self

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= _CHUNK_BYTES:
            self.finish()

    def finish(self) -> None:
        write_all(self._fd, self._waiting)
        self._waiting = bytearray()

    def abandon(self) -> None:
        self._waiting = bytearray()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Replaced:
    """A name that a complete temporary file takes. ``found``: the regular file that has it now, if there is one."""

    def __init__(self, target: str, found: os.stat_result | None) -> None:
        self._target = target
        self._found = found
        self._file: IO[bytes] | None = None
        self._temporary = ""
        try:  # proves that the directory is there and takes new names, and that the disk is not full already
            probe = self.begin()
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
        finally:
            self.abandon()

    def begin(self) -> IO[bytes]:
        fd, self._temporary = tempfile.mkstemp(_SUFFIX, _PREFIX, os.path.dirname(self._target))
        self._file = os.fdopen(fd, "wb")
        return self._file

    def finish(self) -> None:
        assert self._file is not None
        self._file.flush()
        self._take_after(self._file.fileno())
        try:
            os.fsync(self._file.fileno())  # where the disk is another machine's, this is when it says that it is full
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        try:
            os.replace(self._temporary, self._target)
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            self._copy()
        self._file.close()

    def _take_after(self, fd: int) -> None:
        """Owner and mode of the file that is replaced; of a new file, what any program's new file has."""
        if self._found is None:
            os.fchmod(fd, 0o666 & ~_umask())
            return
        status = os.fstat(fd)
        if (status.st_uid, status.st_gid) != (self._found.st_uid, self._found.st_gid):
            os.fchown(fd, self._found.st_uid, self._found.st_gid)
        os.fchmod(fd, stat.S_IMODE(self._found.st_mode))

    def _copy(self) -> None:
        """Into a target whose name can't be taken: something is mounted there."""
        way = _InPlace(os.open(self._target, os.O_WRONLY | os.O_CLOEXEC))
        try:
            with open(self._temporary, "rb") as content:
                way.take(content)
        finally:
            way.close()
        os.unlink(self._temporary)

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk refuses what is still buffered
                self._file.close()

    def close(self) -> None:
        """Nothing was kept open."""


class _InPlace:
    """A regular file whose name stays; ``fd`` is open for writing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._content: IO[bytes] | None = None

    def begin(self) -> IO[bytes]:
        self._content = tempfile.SpooledTemporaryFile(_SPOOLED_BYTES)  # noqa: SIM115 - abandon() closes it
        return self._content

    def finish(self) -> None:
        assert self._content is not None
        self.take(self._content)
        self.abandon()

    def take(self, content: IO[bytes]) -> None:
        """Gives the file the whole of ``content``."""
        size = content.seek(0, os.SEEK_END)
        self._allocate(size)
        content.seek(0)
        at = 0
        while data := content.read(_CHUNK_BYTES):
            left = memoryview(data)
            while left:
                done = os.pwrite(self._fd, left, at)
                left, at = left[done:], at + done
        os.ftruncate(self._fd, size)

    def _allocate(self, size: int) -> None:
        """Room for all of it before the first byte is changed; if there is none, what was there stays whole."""
        before = os.fstat(self._fd).st_size
        if not size:
            return
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            os.ftruncate(self._fd, before)
            if error.errno not in _NO_ALLOCATION:
                raise

    def abandon(self) -> None:
        if self._content is not None:
            self._content.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _umask() -> int:
    """The mask of new files' modes. It can only be read by setting it; nothing else runs in between."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
