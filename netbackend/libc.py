"""Calls of the C library that Python has no function for: namespaces and mounts. Numbers are linux/mount.h's."""

from __future__ import annotations

import ctypes
import os
from typing import Final

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_REC",
    "MS_SHARED",
    "MS_SLAVE",
    "call",
    "mount",
    "unmount",
]

CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
CLONE_NEWNS: Final = 0x00020000

MS_BIND: Final = 1 << 12
MS_REC: Final = 1 << 14
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8


def call(function: str, *arguments: object) -> None:
    """Calls ``function`` of the C library; OSError if it answers with a negative number."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Mounts, without options of the file system's own; OSError if the kernel refuses."""
    call("mount", os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), None)


def unmount(target: str) -> None:
    """Takes the topmost mount off ``target`` at once, whoever still uses it; OSError (EINVAL) if there is none."""
    call("umount2", os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW)
