"""What a program on one of the stack's machines sees of the file system: its own network's /sys, and names for it.

sysfs shows the network namespace that it was mounted in, so in a program that merely entered another one,
/sys/class/net is this machine's. ``ip netns exec`` gives such a program mounts of its own and a fresh sysfs, and so
does this (iproute2, lib/namespace.c). All of it goes with the program's last process: there is nothing to remove.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Final

from netbackend.libc import CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE, call, mount, unmount

__all__ = ["hosts_text", "own_view"]

_SYS: Final = "/sys"
_HOSTS: Final = "/etc/hosts"
_SCRATCH: Final = "/run/worldswitch"  # where a stack is up, this is
_MOUNT_POINT: Final = 4  # field of a line of /proc/self/mountinfo (proc(5))


def hosts_text(original: str, addresses: Mapping[str, str], stack: str) -> str:
    """What /etc/hosts says on a machine of ``stack``: name -> address of each machine, then what it says here.

    Ours come first: the first line that has a name is the one that counts (hosts(5)).
    """
    lines = [f"# the machines of worldswitch stack {stack}"]
    lines += [f"{address}\t{name}" for name, address in addresses.items()]
    return "\n".join(lines) + "\n\n" + original


def own_view(addresses: Mapping[str, str], stack: str) -> None:
    """Gives this process, which has entered its network namespace and has one thread, mounts of its own, as above.

    What cannot be had (no sysfs, a machine without /etc/hosts, a container that may not mount) is left as it is.
    """
    with suppress(OSError):
        call("unshare", CLONE_NEWNS)
        mount("none", "/", "none", MS_REC | MS_SLAVE)  # what is mounted here is not seen outside; the reverse is
        with suppress(OSError):
            _own_sysfs()
        with suppress(OSError):
            _own_hosts(addresses, stack)


def _own_sysfs() -> None:
    """A fresh sysfs over the old one; control groups, tracefs and whatever else is mounted in there stays in place."""
    read_only = os.statvfs(_SYS).f_flag & os.ST_RDONLY  # as it is in many containers; MS_RDONLY is the same bit
    with ExitStack() as opened:
        inner = []
        for point in _mounted_below(_SYS):
            with suppress(OSError):
                inner.append((point, os.open(point, os.O_PATH | os.O_CLOEXEC)))
                opened.callback(os.close, inner[-1][1])
        mount("sysfs", _SYS, "sysfs", read_only)
        for point, fd in inner:
            with suppress(OSError):
                mount(f"/proc/self/fd/{fd}", point, "none", MS_BIND)


def _mounted_below(directory: str) -> Iterable[str]:
    """Mount points below ``directory``, outer ones first; none whose name the kernel writes with escapes."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [os.fsdecode(line.split(b" ")[_MOUNT_POINT]) for line in file]
    return dict.fromkeys(point for point in points if point.startswith(f"{directory}/") and "\\" not in point)


def _own_hosts(addresses: Mapping[str, str], stack: str) -> None:
    """Binds a file over /etc/hosts. It lives in a file system of its own, which is out of sight at once."""
    with open(_HOSTS, errors="surrogateescape") as file:
        text = hosts_text(file.read(), addresses, stack)
    mount("tmpfs", _SCRATCH, "tmpfs", 0)
    try:
        made = f"{_SCRATCH}/hosts"
        with open(made, "w", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(made, 0o644)  # whatever the umask
        mount(made, _HOSTS, "none", MS_BIND)
    finally:
        unmount(_SCRATCH)
