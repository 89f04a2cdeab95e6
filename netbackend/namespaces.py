"""Named network namespaces: made, entered and removed the way iproute2 does, so that ``ip netns`` lists them.

A network namespace belongs to a thread, not to a process. So whatever has to happen inside one runs in a short-lived
thread that enters it and ends (``run``): the caller's own namespace never changes, nothing is forked, and descriptors
opened in there (TAPs, sockets) are the caller's at once.
"""

from __future__ import annotations

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
from netbackend import nsfiles
from netbackend.libc import CLONE_NEWNET, MS_BIND, call, mount
from netbackend.nsfiles import path
from netbackend.refusal import refusal

__all__ = [
    "NamespaceId",
    "check_stack_name",
    "create",
    "enter",
    "identity",
    "is_ours",
    "namespace_name",
    "path",
    "remove",
    "run",
    "run_in",
]

T = TypeVar("T")

NamespaceId = tuple[int, int]
"""Device and inode number of a namespace: what tells it from a later one of the same name."""


# linux/sockios.h, linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_IFREQ_FLAGS: Final = struct.Struct("16sh22x")

_THIS_THREAD: Final = "/proc/thread-self/ns/net"  # /proc/self would be the main thread's

# What a new namespace takes over from this machine, or from the kernel's defaults, and what every stack has instead.
_SETTINGS: Final = (
    # IPv6 is on, and an idle network is silent all the same: nobody solicits routers, believes one or asks whether
    # its address is taken (the plan sees to that; and an address in doubt cannot be used for a second or two). Groups
    # are reported twice at once when they are joined, and not once more a second later.
    *(
        (f"ipv6/conf/{which}/{setting}", value)
        for which in ("all", "default")
        for setting, value in (
            ("disable_ipv6", "0"),
            ("addr_gen_mode", "0"),  # link-local addresses are made of the MAC (RFC 4291, appendix A)
            ("use_tempaddr", "0"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("router_solicitations", "0"),
            ("accept_dad", "0"),
            ("dad_transmits", "0"),
            ("mldv1_unsolicited_report_interval", "1"),  # ms
            ("mldv2_unsolicited_report_interval", "1"),
        )
    ),
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


def identity(name: str, root: str = "") -> NamespaceId | None:
    """Device and inode of namespace ``name``, None if there is none. ``root``: see ``enter``."""
    try:
        status = os.stat(root + path(name))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def create(name: str) -> NamespaceId:
    """Makes namespace ``name``: loopback up, set up as every stack's is (``_SETTINGS``).

    Raises StackError if the name is taken, SetupError without privilege, NetworkError for anything else.
    """
    nsfiles.reserve(name)
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
    """Removes namespace ``name``; tells whether it was there. With ``made``, only if it is still ours (``is_ours``).

    The kernel keeps a namespace for as long as a process lives in it or holds a descriptor of it.
    """
    if not is_ours(name, made) or not nsfiles.remove(name):
        return False
    note("removed network namespace %s", name)
    return True


def is_ours(name: str, made: NamespaceId | None) -> bool:
    """Whether what has the name is what was made, and not somebody's later namespace. ``made`` None: whatever it is.

    The file alone, on which nothing is mounted, or which is out of sight below another mount, is what was made too.
    """
    found = identity(name)
    if found is None:
        return nsfiles.is_mounted(name)
    return made is None or found == made or not nsfiles.is_namespace(found[0])


def enter(name: str, root: str = "") -> None:
    """Moves the calling thread into namespace ``name``; for a child process just before it execs a program.

    ``root``: the root directory to look from, as /proc/PID/root, for a namespace that was made in a mount namespace of
    its maker's own (``unshare --mount``, a service with private mounts).
    """
    try:
        fd = os.open(root + path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StackError(f"there is no network namespace {name}; is the stack up?") from None
    try:
        _enter(fd, name)
    finally:
        os.close(fd)


def _enter(fd: int, name: str) -> None:
    try:
        call("setns", fd, CLONE_NEWNET)
    except OSError as error:
        raise refusal(f"enter network namespace {name}", error.errno) from None


def run(name: str, function: Callable[[], T]) -> T:
    """What ``function()`` returns or raises when it runs inside namespace ``name`` (see the module's docstring).

    It must not use /proc/self/net, which is the main thread's; /proc/thread-self/net and /proc/sys/net are right.
    """

    def inside() -> T:
        enter(name)
        return function()

    return _in_thread(inside)


def run_in(fd: int, function: Callable[[], T]) -> T:
    """``run``, for a namespace of which there is a descriptor and, for all the caller knows, no name."""

    def inside() -> T:
        _enter(fd, f"(descriptor {fd})")
        return function()

    return _in_thread(inside)


def _in_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "namespace") as pool:
        return pool.submit(function).result()


def _become(name: str) -> None:
    """Gives the calling thread a new namespace and mounts that on the reserved file."""
    try:
        call("unshare", CLONE_NEWNET)
        mount(_THIS_THREAD, path(name), "none", MS_BIND)
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
