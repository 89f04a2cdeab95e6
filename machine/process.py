"""What each process of a stack does to itself: its name, its CPUs, its place under the supervisor, its rights."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from typing import Final

import psutil

from machine.errors import ConfigError, SetupError

__all__ = [
    "NOBODY",
    "SHORT_SLICE_NS",
    "deny_io_uring",
    "die_with_parent",
    "drop_privileges",
    "leave_network",
    "pin",
    "set_name",
    "shorten_slice",
]

_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
_PR_SET_NAME: Final = 15
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2  # include/uapi/linux/seccomp.h
_CLONE_NEWNET: Final = 0x4000_0000  # linux/sched.h
NOBODY: Final = 65534  # the overflow uid and gid, which owns nothing

SHORT_SLICE_NS: Final = 100_000
"""The shortest slice that the kernel grants (kernel/sched/syscalls.c), in nanoseconds."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}  # numbers of the system call, which has no wrapper in libc
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQII")  # struct sched_attr, include/uapi/linux/sched/types.h

_IO_URING_SETUP: Final = 425  # the same on every architecture
_SOCK_FILTER: Final = struct.Struct("=HBBI")  # struct sock_filter, include/uapi/linux/filter.h: code, jt, jf, k
_WITHOUT_IO_URING: Final = b"".join(
    _SOCK_FILTER.pack(*instruction)
    for instruction in (
        (0x20, 0, 0, 0),  # A = seccomp_data.nr
        (0x54, 0, 0, 0x3FFF_FFFF),  # A &= ..., which takes the x32 bit off
        (0x15, 0, 1, _IO_URING_SETUP),  # if A is not this, skip one
        (0x06, 0, 0, 0x0005_0000 | errno.ENOSYS),  # SECCOMP_RET_ERRNO
        (0x06, 0, 0, 0x7FFF_0000),  # SECCOMP_RET_ALLOW
    )
)

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: ctypes.c_char_p | ctypes.c_ulong) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, argument, zero, zero, zero):
        number = ctypes.get_errno()
        raise SetupError(f"prctl({option}) failed: {os.strerror(number)}")


def set_name(name: str) -> None:
    """The process name in ps, top and perf (at most 15 bytes)."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent, of pid ``parent``, ends by whatever cause."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:  # it ended before the request took effect
        os._exit(1)


def pin(cpus: tuple[int, ...]) -> None:
    """Restricts this process to ``cpus``; an empty tuple leaves it where it is."""
    if not cpus:
        return
    try:
        psutil.Process().cpu_affinity(list(cpus))
    except (OSError, ValueError, psutil.Error) as error:
        raise ConfigError(f"cannot run on CPU {','.join(map(str, cpus))}: {error}") from error


def deny_io_uring() -> None:
    """Lets this process, and what it becomes, find that the kernel has no io_uring; after ``drop_privileges``.

    What is asked for through a ring passes no seccomp filter. SetupError if the kernel does not take the filter.
    """
    program = ctypes.create_string_buffer(_WITHOUT_IO_URING, len(_WITHOUT_IO_URING))
    length = len(_WITHOUT_IO_URING) // _SOCK_FILTER.size
    fprog = struct.pack("HP", length, ctypes.addressof(program))  # struct sock_fprog
    if _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_char_p(fprog)):
        raise SetupError(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")


def shorten_slice(tid: int) -> bool:
    """Asks for short turns for a thread (0: this one) in return for getting them sooner; whether the kernel heard.

    A thread that wakes with a shorter slice than that of the one on its CPU does not wait for the end of that one's
    turn (PREEMPT_SHORT, Linux 6.12; earlier ones take the request and ignore it). Its share of the CPU stays.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, 0, 0, SHORT_SLICE_NS, 0, 0, 0, 0)
    return number is not None and _libc.syscall(number, tid, attributes, 0) == 0


def leave_network() -> None:
    """Moves this process into an empty network namespace of its own, if it has the privilege."""
    if os.geteuid() == 0 and _libc.unshare(_CLONE_NEWNET):
        raise SetupError(f"no network namespace: {os.strerror(ctypes.get_errno())}")


def drop_privileges() -> None:
    """Becomes an unprivileged user for good: no capability, no file of anybody's, no way back.

    Without privilege to begin with (unit tests), only the way back is closed. SetupError where there is no such user to
    become, as in a user namespace that maps root alone.
    """
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)  # the kernel clears every capability set with the last uid 0
        except OSError as error:
            raise SetupError(
                f"cannot give up root's rights and become user {NOBODY}: {error.strerror}; in a user namespace, "
                "map that user and group"
            ) from None
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
