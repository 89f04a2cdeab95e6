"""Named network namespaces: made, entered and removed the way iproute2 does, so that ``ip netns`` lists them.

A network namespace belongs to a thread, not to a process. So whatever has to happen inside one runs in a short-lived
thread that enters it and ends (``run``): the caller's own namespace never changes, nothing is forked, and descriptors
opened in there (TAPs, sockets) are the caller's at once.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from machine.activity import note
from machine.errors import NetworkError, StackError
from machine.stackname import check_stack_name
from netbackend.refusal import refusal

__all__ = ["NamespaceId", "check_stack_name", "create", "enter", "identity", "namespace_name", "path", "remove", "run"]

T = TypeVar("T")

NamespaceId = tuple[int, int]
"""Device and inode number of a namespace: what tells it from a later one of the same name."""

_DIRECTORY: Final = "/run/netns"

# linux/sched.h, linux/mount.h, linux/sockios.h, linux/if.h
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_IFREQ_FLAGS: Final = struct.Struct("16sh22x")

_THIS_THREAD: Final = "/proc/thread-self/ns/net"  # /proc/self would be the main thread's

# What a new namespace takes over from this machine, or from the kernel's defaults, and what every stack has instead.
_SETTINGS: Final = (
    # Nobody solicits routers or announces itself: an idle network is silent.
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    # Throughput must not depend on the machine's choice. Reno is built into every kernel, it is what the paper's
    # machines ran, and at round trips below 1 ms CUBIC behaves like it.
    ("ipv4/tcp_congestion_control", "reno"),
    # A TAP gives the sender no back-pressure. A window that fits into every queue on the way makes a slow wire or
    # a slow machine a wait and not a loss; it is many times the product of bandwidth and delay of any of them.
    ("ipv4/tcp_rmem", "4096 131072 1048576"),
    ("ipv4/tcp_no_metrics_save", "1"),  # one run's slow-start threshold is not the next one's
    # A bridge is a wire: no packet filter on it (there is such a hook only while br_netfilter is loaded).
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
)


def namespace_name(stack: str, role: str) -> str:
    """Name of the namespace that machine ``role`` (guest, host, ...) has in ``stack``."""
    return f"ws-{check_stack_name(stack)}-{role}"


def path(name: str) -> str:
    """The file that holds namespace ``name``; opening it gives a descriptor for ``setns``."""
    return f"{_DIRECTORY}/{name}"


def identity(name: str) -> NamespaceId | None:
    """Device and inode of namespace ``name``, None if there is none."""
    try:
        status = os.stat(path(name))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def create(name: str) -> NamespaceId:
    """Makes namespace ``name``: loopback up, set up as every stack's is (``_SETTINGS``).

    Raises StackError if the name is taken, SetupError without privilege, NetworkError for anything else.
    """
    _reserve(name)
    try:
        _in_thread(lambda: _become(name))
        found = identity(name)
    except BaseException:
        remove(name)
        raise
    if found is None:
        raise NetworkError(f"network namespace {name} vanished while it was made")
    note("made network namespace %s", name)
    return found


def remove(name: str, made: NamespaceId | None = None) -> bool:
    """Removes namespace ``name``; tells whether it was there. With ``made``, only if it is still that one.

    The kernel keeps a namespace for as long as a process lives in it or holds a descriptor of it.
    """
    if made is not None and identity(name) != made:
        return False
    with suppress(OSError):  # EINVAL: a name whose namespace was never mounted, after an interrupted create
        _call("umount2", path(name).encode(), _MNT_DETACH)
    try:
        os.unlink(path(name))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refusal(f"remove network namespace {name}", error.errno) from None
    note("removed network namespace %s", name)
    return True


def enter(name: str) -> None:
    """Moves the calling thread into namespace ``name``; for a child process just before it execs a program."""
    try:
        fd = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StackError(f"there is no network namespace {name}; is the stack up?") from None
    try:
        _call("setns", fd, _CLONE_NEWNET)
    except OSError as error:
        raise refusal(f"enter network namespace {name}", error.errno) from None
    finally:
        os.close(fd)


def run(name: str, function: Callable[[], T]) -> T:
    """What ``function()`` returns or raises when it runs inside namespace ``name`` (see the module's docstring).

    It must not use /proc/self/net, which is the main thread's; /proc/thread-self/net and /proc/sys/net are right.
    """

    def inside() -> T:
        enter(name)
        return function()

    return _in_thread(inside)


def _in_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "namespace") as pool:
        return pool.submit(function).result()


def _reserve(name: str) -> None:
    """Makes the file that the namespace is mounted on. O_EXCL decides between two that want one name."""
    try:
        os.makedirs(_DIRECTORY, exist_ok=True)
        os.close(os.open(path(name), os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        raise StackError(f"network namespace {name} exists already; run `worldswitch down` first") from None
    except OSError as error:
        raise refusal(f"create network namespace {name}", error.errno) from None


def _become(name: str) -> None:
    """Gives the calling thread a new namespace and mounts that on the reserved file."""
    try:
        _call("unshare", _CLONE_NEWNET)
        _call("mount", _THIS_THREAD.encode(), path(name).encode(), b"none", _MS_BIND, None)
        _apply_settings()
        _loopback_up()
    except OSError as error:
        raise refusal(f"create network namespace {name}", error.errno) from None


def _apply_settings() -> None:
    for setting, value in _SETTINGS:
        with suppress(FileNotFoundError), open(f"/proc/sys/net/{setting}", "w") as file:  # a kernel without the part
            file.write(value)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = _IFREQ_FLAGS.pack(b"lo", 0)
        _, flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(b"lo", flags | _IFF_UP))


def _call(function: str, *arguments: object) -> None:
    """Calls ``function`` of the C library; OSError if it answers with a negative number."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
