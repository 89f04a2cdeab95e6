"""Where a capture is written to: a file, or a stream whose reader may be slow, stop, or go away.

Whoever writes a capture forwards frames as well, and must not wait for a reader. So a stream (a FIFO, a pipe, a
terminal, a socket) is written to without blocking, and what it does not take now stays with the caller.

O_NONBLOCK belongs to the open file, not to the descriptor. Setting it on a standard output that was inherited would set
it for the shell and for every other process that shares it. So an inherited descriptor is opened anew, through
/proc/self/fd, which gives an open file of our own; sockets, which cannot be opened, have MSG_DONTWAIT instead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
from typing import Final

from machine.descriptors import named_descriptor
from machine.errors import SetupError

__all__ = ["CaptureFile", "open_capture"]

_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_PIPE_BYTES: Final = 1 << 20  # the largest that anybody may ask for (/proc/sys/fs/pipe-max-size)


def open_capture(path: str) -> int:
    """Makes or truncates capture file ``path``; a descriptor of our own, close-on-exec, that never blocks as a stream.

    ``-``, /dev/stdout and the like mean a descriptor that is open already; it is written to from where it stands. A
    FIFO needs a reader already. SetupError, one line, if it cannot be written.
    """
    try:
        number = named_descriptor(path)
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o644) if number is None else _anew(number)
    except (OSError, ValueError) as error:
        reason = f"{error.strerror if isinstance(error, OSError) else error}; choose another path"
        if isinstance(error, OSError) and error.errno == errno.ENXIO and _is_fifo(path):
            reason = "nobody reads this FIFO; start its reader first"
        raise SetupError(f"cannot write capture file {path}: {reason}") from None
    with contextlib.suppress(OSError):  # no pipe; or the user's pipes have used up what the kernel allows
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return fd


def _anew(number: int) -> int:
    """The file behind a descriptor, as an open file of our own. Regular files and sockets stay shared: see above."""
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode) or stat.S_ISSOCK(mode):
        return os.dup(number)
    return os.open(f"/proc/self/fd/{number}", _FLAGS)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


class CaptureFile:
    """The open file ``fd`` of a capture, which it owns. ``write`` never waits for a reader; ``wait`` does."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        mode = os.fstat(fd).st_mode
        self._regular = stat.S_ISREG(mode)
        self._socket = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(mode) else None

    def write(self, data: memoryview) -> int:
        """How many bytes were taken, which may be none at the moment; OSError if there will never be more."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def wait(self, seconds: float) -> bool:
        """Whether something can be written, or will never be, within ``seconds``."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def take_back(self, count: int) -> None:
        """Cuts off the last ``count`` bytes that were written, where that is possible: from a file of nobody else's."""
        with contextlib.suppress(OSError):
            end = os.lseek(self._fd, 0, os.SEEK_CUR) if self._regular else -1
            if end >= count and os.fstat(self._fd).st_size == end:
                os.ftruncate(self._fd, end - count)

    def close(self) -> None:
        """Once."""
        if self._socket is not None:
            self._socket.close()
        os.close(self._fd)
