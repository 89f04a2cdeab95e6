"""Connecting to a socket that QEMU has made in a folder of its own."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

__all__ = ["connect"]


def connect(connection: socket.socket, path: Path) -> None:
    """Connects to the socket at ``path``, and nothing else; OSError, ENOTSOCK included.

    Whoever calls this is root, as a rule, and what lies in QEMU's folder is QEMU's to choose: a symbolic link there
    would lead to any other server that only root may talk to. So the place is looked at first, and it is that very
    place that is connected to; a path longer than a socket's name may be does no harm either.
    """
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        connection.connect(f"/proc/self/fd/{place}")
    finally:
        os.close(place)
