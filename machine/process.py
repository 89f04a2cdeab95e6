"""What each process of a stack does to itself: its name, its CPUs, its place under the supervisor, its rights.

How a process that was taken over is kept from doing more than its part, in the order in which it is done:

================== ================================================== =============================================
what               by                                                 so that
================== ================================================== =============================================
``own_numbers``    a PID namespace, made by the parent                it cannot signal anybody else's process, and
                                                                      whatever it has started dies with it
``leave_network``  an empty network namespace                         the host's own servers on 127.0.0.1 and its
                                                                      abstract sockets are out of reach
``drop_privileges`` user nobody, no capabilities, NO_NEW_PRIVS        no file of anybody's, and no way back
``forbid``         RLIMIT_NPROC 0, RLIMIT_FSIZE                       it starts nothing, and makes no file grow
``confine``        a seccomp filter                                   the kernel's wide doors are shut: io_uring,
                                                                      user namespaces, userfaultfd, keyrings
================== ================================================== =============================================
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import select
import signal
import struct
import threading
from collections.abc import Iterator
from typing import Final

from machine.errors import ConfigError, SetupError

__all__ = [
    "NOBODY",
    "SHORT_SLICE_NS",
    "confine",
    "die_with_parent",
    "drop_privileges",
    "forbid",
    "leave_network",
    "own_numbers",
    "pin",
    "set_name",
    "shorten_slice",
    "start_without_signals",
]

_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
_PR_SET_NAME: Final = 15
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2  # include/uapi/linux/seccomp.h
_CLONE_NEWNET: Final = 0x4000_0000  # linux/sched.h
_CLONE_NEWPID: Final = 0x2000_0000
NOBODY: Final = 65534  # the overflow uid and gid, which owns nothing

SHORT_SLICE_NS: Final = 100_000
"""The shortest slice that the kernel grants (kernel/sched/syscalls.c), in nanoseconds."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}  # numbers of the system call, which has no wrapper in libc
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQII")  # struct sched_attr, include/uapi/linux/sched/types.h

_AUDIT_ARCH: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}  # include/uapi/linux/audit.h
_X32_BIT: Final = 0x4000_0000  # of the numbers of x86-64's other ABI

# Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_DOORS: Final = {
    "io_uring_setup": (425, 425),  # what is asked for through a ring passes no filter
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "unshare": (272, 97),  # a user namespace gives every capability in it
    "setns": (308, 268),
    "userfaultfd": (323, 282),  # stops the kernel in the middle of a copy for as long as it likes
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
}
"""What neither a role nor QEMU has any use for: name -> number on x86-64, on arm64."""

_RESIZING: Final = {"truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47)}
"""By these a process shrinks a page under the feet of one that has it mapped, which SIGBUS then kills."""

_ARCHITECTURES: Final = ("x86_64", "aarch64")

_SOCK_FILTER: Final = struct.Struct("=HBBI")  # struct sock_filter, include/uapi/linux/filter.h: code, jt, jf, k
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = a word of struct seccomp_data
_AND: Final = 0x54
_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data
_ALLOW: Final = 0x7FFF_0000  # SECCOMP_RET_ALLOW
_ERRNO: Final = 0x0005_0000  # SECCOMP_RET_ERRNO

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: ctypes.c_char_p | ctypes.c_ulong) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, argument, zero, zero, zero):
        number = ctypes.get_errno()
        raise SetupError(f"prctl({option}) failed: {os.strerror(number)}")


def set_name(name: str) -> None:
    """The process name in ps, top and perf (at most 15 bytes)."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


@contextlib.contextmanager
def own_numbers() -> Iterator[None]:
    """The process that the calling thread starts within the block is number 1 of a PID namespace of its own.

    It cannot name, and so not signal, any process outside; when it ends, the kernel kills whatever it has started.
    A signal for which it has no handler reaches it only if it is SIGKILL or SIGSTOP (pid_namespaces(7)). To its
    parent it has a number like any other. One start a block. Without privilege (unit tests) nothing is changed.
    """
    if os.geteuid() != 0:
        yield
        return
    before = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWPID):
            raise SetupError(f"no PID namespace: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        _libc.setns(before, _CLONE_NEWPID)
        os.close(before)


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent ends by whatever cause. ``parent``: a pidfd of the parent.

    Not by its number, which is 0 to a process that has numbers of its own.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    if poll.poll(0):  # it ended before the request took effect
        os._exit(1)


def start_without_signals(thread: threading.Thread) -> None:
    """Starts a thread that the kernel gives no signal to.

    Python runs handlers in the main thread. A signal that another thread took would only set a flag: it would not end
    the call in which the main thread sleeps.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # inherited by the thread
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pin(cpus: tuple[int, ...]) -> None:
    """Restricts this process to ``cpus``; an empty tuple leaves it where it is."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot run on CPU {','.join(map(str, cpus))}: {error}") from error


def confine(*, resizing: bool = True) -> None:
    """Shuts the kernel's wide doors to this process, and to what it becomes; after ``drop_privileges``.

    To it, the kernel then has no ``_DOORS`` (ENOSYS). ``resizing``: files may still be cut and grown; without, that is
    refused as not permitted (EPERM). SetupError if the kernel does not take the filter. On an architecture whose
    numbers are not in the tables nothing is done.
    """
    if platform.machine() not in _ARCHITECTURES:
        return
    instructions = b"".join(_SOCK_FILTER.pack(*instruction) for instruction in _filter(resizing=resizing))
    program = ctypes.create_string_buffer(instructions, len(instructions))
    fprog = struct.pack("HP", len(instructions) // _SOCK_FILTER.size, ctypes.addressof(program))  # struct sock_fprog
    if _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_char_p(fprog)):
        raise SetupError(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")


def _filter(*, resizing: bool) -> Iterator[tuple[int, int, int, int]]:
    """The filter's instructions: (code, jump if true, jump if false, operand).

    A call by another architecture's numbers (32-bit x86) is none of ours, and refused whole: the tables say nothing
    of it, and it has the same doors.
    """
    place = _ARCHITECTURES.index(platform.machine())
    yield _LOAD, 0, 0, _ARCH
    yield _IF_EQUAL, 1, 0, _AUDIT_ARCH[platform.machine()]
    yield _RETURN, 0, 0, _ERRNO | errno.ENOSYS
    yield _LOAD, 0, 0, _NUMBER
    yield _AND, 0, 0, ~_X32_BIT & 0xFFFF_FFFF
    refused = {numbers[place]: errno.ENOSYS for numbers in _DOORS.values()}
    if not resizing:
        refused |= {numbers[place]: errno.EPERM for numbers in _RESIZING.values()}
    for number, error in refused.items():
        yield _IF_EQUAL, 0, 1, number
        yield _RETURN, 0, 0, _ERRNO | error
    yield _RETURN, 0, 0, _ALLOW


def forbid(largest_file: int | None) -> None:
    """No process or thread of this one's making from now on, and no file that grows beyond ``largest_file`` bytes.

    None: files may grow as they like. For good; after ``drop_privileges``, as root is not bound by the first. Python
    ignores SIGXFSZ, so a write beyond the limit is an error (EFBIG).
    """
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))


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
