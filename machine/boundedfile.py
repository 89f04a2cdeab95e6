"""Small files that a user names: read whole, but never more than a limit, and never waited for without one.

A name may lead to anything: a directory, a FIFO that nobody writes to, /dev/zero, a disk image. Pipes are taken, for
a shell's ``<(command)`` is one.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import Final

from machine.errors import ConfigError

__all__ = ["read_bounded"]

_BLOCK: Final = 65536


def read_bounded(path: Path, largest: int, seconds: float) -> bytes:
    """The contents of ``path``, at most ``largest`` bytes, at most ``seconds`` after the call.

    ConfigError, one line, if the file cannot be read, is larger, or a pipe or terminal that is silent.
    """
    try:
        # O_NONBLOCK: the open itself waits for nobody. A pipe opened anew gets its own flags, the writer keeps his.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ConfigError(f"cannot read {path}: {_reason(error)}") from None
    try:
        return _read(fd, path, largest, seconds)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {_reason(error)}") from None
    finally:
        os.close(fd)


def _read(fd: int, path: Path, largest: int, seconds: float) -> bytes:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds
    found = bytearray()
    while len(found) <= largest:
        # poll() first: a FIFO without a writer reads as empty, which it is not; the poll says that nothing is there.
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise ConfigError(f"cannot read {path}: nothing came from it for {seconds:g} s")
        try:
            block = os.read(fd, _BLOCK)
        except BlockingIOError:
            continue
        if not block:
            return bytes(found)
        found += block
    raise ConfigError(f"cannot read {path}: it is larger than {largest} bytes")


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
