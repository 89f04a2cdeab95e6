"""POSIX shared memory: created by the supervisor, mapped by the roles that got the descriptor, nameless at once.

The name lives only between ``shm_open`` and ``shm_unlink`` in :func:`create`; after that the object exists
as long as a process holds it, so a crash of all of them leaves nothing in /dev/shm.

**Who may map.** Whoever holds a descriptor of such an object may shrink it with ftruncate(), at any time. A process
that has the object mapped is then killed by SIGBUS at its next load from a page that has gone, and no check made
before the load helps. So only the roles map, which die together anyway. Root's processes (the supervisor, ``worldswitch
trace``) look at the pages with :class:`PageReader`: pread() of what has been cut off is a short read, not a signal.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from typing import Final, Literal

import posix_ipc

from machine.errors import LayoutError, SetupError

__all__ = ["PageReader", "attach", "create", "reserve"]


def create(label: str, size: int, *, reserved: bool = True) -> int:
    """A new zeroed object of ``size`` bytes; returns its descriptor (close-on-exec, owned by the caller).

    ``reserved``: its memory is there from now on; without, from a call of ``reserve`` on. SetupError if there is none.
    """
    name = f"/worldswitch-{label}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=size)
    except (posix_ipc.Error, OSError, ValueError) as error:
        raise SetupError(f"cannot create {size} bytes of shared memory: {_refusal(error)}") from error
    memory.unlink()
    fd: int = memory.fd
    try:
        if reserved:
            reserve(fd, size)
    except SetupError:
        os.close(fd)
        raise
    return fd


def _refusal(error: Exception) -> str:
    """What was refused, and what to look at. posix_ipc has words of its own for some numbers, and keeps those back."""
    words = str(error)
    if (
        "maximum number of files" in words or getattr(error, "errno", None) == errno.EMFILE
    ):  # EMFILE, as posix_ipc has it
        return "too many open files (see `ulimit -n`)"
    return f"is /dev/shm mounted, and may a file be that large (ulimit -f)? ({words})"


def reserve(fd: int, size: int) -> None:
    """Has the object's first ``size`` bytes in memory now; SetupError if /dev/shm, or the machine, is full.

    A tmpfs finds a page when it is first touched. On a full one, whoever touches it is killed by SIGBUS, minutes after
    a start that seemed to go well.
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        raise SetupError(
            f"no room in /dev/shm for {size} bytes of shared memory ({error.strerror}): make room, or enlarge it "
            "(mount -o remount,size=... /dev/shm)"
        ) from None


def attach(fd: int, size: int) -> memoryview:
    """Maps the first ``size`` bytes of the object, readable and writable (format "B")."""
    actual = os.fstat(fd).st_size
    if actual < size:
        raise LayoutError(f"shared-memory object holds {actual} bytes, expected at least {size}")
    return memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED))


class PageReader:
    """An object as somebody sees it who must not map it: what has been cut off reads as zeros.

    ``fd`` stays the caller's. ``size`` is what the object was made with, in bytes. All values are whatever the
    processes that map it have stored: the reader checks what it needs.
    """

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd: Final = fd
        self.size: Final = size

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on; both within the object as it was made."""
        return os.pread(self._fd, length, offset).ljust(length, b"\0")

    def words(self, code: Literal["Q", "I"] = "Q", offset: int = 0) -> memoryview:
        """A copy of everything from byte ``offset`` on, as words of format ``code``."""
        return memoryview(self.read(offset, self.size - offset)).cast(code)

    @property
    def cut(self) -> bool:
        """Whether a process has made the object smaller than it was."""
        return os.fstat(self._fd).st_size < self.size
