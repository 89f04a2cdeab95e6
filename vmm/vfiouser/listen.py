"""The listening socket of a vfio-user server, and who may be there before it."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from machine.errors import ConfigError, SetupError, StackError

__all__ = ["MAX_PATH_BYTES", "listen"]

MAX_PATH_BYTES: Final = 107  # sun_path has 108 (include/uapi/linux/un.h), one of which is a NUL
_MODE: Final = 0o600  # who may connect may have the device write to any memory that he hands it
_BACKLOG: Final = 4


def listen(path: Path) -> socket.socket:
    """A listening stream socket at ``path``, which only the owner may connect to; removes a dead server's socket.

    Raises ConfigError for a path that cannot be used, StackError if a living server is there, and SetupError if the
    kernel refuses.
    """
    name = os.fsencode(path)
    if not name or len(name) > MAX_PATH_BYTES or b"\0" in name:
        raise ConfigError(f"socket path of {len(name)} bytes: the kernel takes 1 to {MAX_PATH_BYTES}, without NUL")
    _make_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), _MODE)  # before bind(), which makes the file: nobody slips in between
        listener.bind(name)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StackError(f"{path}: somebody else has just taken it") from error
        raise SetupError(f"cannot listen at {path}: {error.strerror}") from error
    return listener


def _make_way(path: Path) -> None:
    """Removes a socket that nobody listens at; refuses anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is there and is no socket: choose another path, or remove it")
    if _answers(path):
        raise StackError(f"{path} is in use by a living server: end it, or choose another path")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"cannot remove the stale socket {path}: {error.strerror}") from error


def _answers(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its backlog is full, it is of another type, or we may not ask: not ours to remove
        return True
