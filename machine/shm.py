"""POSIX shared memory: created by the supervisor, mapped by whoever got the descriptor, nameless at once.

The name lives only between ``shm_open`` and ``shm_unlink`` in :func:`create`; after that the object exists
as long as a process holds it, so a crash of all of them leaves nothing in /dev/shm.
"""

from __future__ import annotations

import mmap
import os
import secrets

import posix_ipc

from machine.errors import LayoutError, SetupError

__all__ = ["attach", "create"]


def create(label: str, size: int) -> int:
    """A new zeroed object of ``size`` bytes; returns its descriptor (close-on-exec, owned by the caller)."""
    name = f"/worldswitch-{label}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=size)
    except (posix_ipc.Error, OSError, ValueError) as error:
        raise SetupError(f"cannot create {size} bytes of shared memory ({error}); is /dev/shm mounted?") from error
    memory.unlink()
    fd: int = memory.fd
    return fd


def attach(fd: int, size: int) -> memoryview:
    """Maps the first ``size`` bytes of the object, readable and writable (format "B")."""
    actual = os.fstat(fd).st_size
    if actual < size:
        raise LayoutError(f"shared-memory object holds {actual} bytes, expected at least {size}")
    return memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED))
