"""TAP devices by plain ioctl: the frames of a kernel network interface as ``read()`` and ``write()``.

Source: Linux ``Documentation/networking/tuntap.rst`` and ``drivers/net/tun.c``. Every ``read()`` gives one whole
Ethernet frame without FCS, every ``write()`` takes one. The interface lives as long as its descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
from typing import Final, NoReturn

from machine.errors import ConfigError, NetworkError, SetupError
from netbackend.refusal import refusal

__all__ = [
    "INTERFACE_NAME_LIMIT",
    "check_interface_name",
    "disable_host_interrupts",
    "enable_host_interrupts",
    "identity_of",
    "interface_of",
    "keep",
    "open_tap",
]

INTERFACE_NAME_LIMIT: Final = 15  # characters: IFNAMSIZ less the terminating zero

_DEVICE: Final = "/dev/net/tun"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # no '%': the kernel takes it as a name template

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNGETIFF: Final = 0x800454D2
_SIOCGIFHWADDR: Final = 0x8927  # linux/sockios.h
_SIOCGSKNS: Final = 0x894C  # linux/sockios.h; of a TAP since Linux 5.0
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFREQ: Final = struct.Struct("16sH22x")
_IFREQ_MAC: Final = struct.Struct("16sH6s16x")


def check_interface_name(name: str) -> str:
    """``name`` itself if it can be an interface's; ConfigError otherwise."""
    if len(name) > INTERFACE_NAME_LIMIT or not _NAME.fullmatch(name):
        raise ConfigError(
            f"interface name {name!r}: use 1 to {INTERFACE_NAME_LIMIT} letters, digits, '_', '.' or '-', "
            "a letter or digit first"
        )
    return name


def open_tap(name: str, *, nonblocking: bool = True, vnet_hdr: bool = False) -> int:
    """Creates TAP ``name`` in the caller's network namespace, or attaches to it; returns its descriptor.

    ``vnet_hdr``: each frame is preceded by a ``virtio_net_hdr`` (10 bytes), which carries offloads. Raises
    SetupError (no device node, no privilege), NetworkError (the name is taken), ConfigError (bad name).
    """
    check_interface_name(name)
    flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if vnet_hdr else 0)
    fd = _open_device(os.O_NONBLOCK if nonblocking else 0)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    except OSError as error:
        os.close(fd)
        _refuse(name, error)
    return fd


def keep(fd: int, kept: bool) -> None:
    """Whether the TAP of ``fd`` stays when its last descriptor is closed; ``links.delete`` ends a kept one."""
    try:
        fcntl.ioctl(fd, _TUNSETPERSIST, int(kept))
    except OSError as error:
        raise refusal("change how long the TAP lives", error.errno) from None


def interface_of(fd: int) -> tuple[str, int]:
    """The name of the TAP's interface, and a new descriptor of the network namespace that it is in.

    For whoever has inherited ``fd`` and lives elsewhere. Needs privilege; SetupError without, NetworkError if ``fd``
    is not a TAP.
    """
    try:
        name, _ = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
        namespace = fcntl.ioctl(fd, _SIOCGSKNS)
    except OSError as error:
        raise refusal("find the TAP's interface", error.errno) from None
    return name.rstrip(b"\0").decode("ascii", "replace"), namespace


def _open_device(flags: int) -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise refusal(f"open {_DEVICE}", error.errno) from None
        raise SetupError(
            f"{_DEVICE}: {error.strerror}; load the driver (modprobe tun), or in a container make the node: "
            f"mkdir -p /dev/net && mknod {_DEVICE} c 10 200"
        ) from None


def identity_of(fd: int) -> tuple[str, bytes]:
    """Name and MAC of the TAP's interface as they are now, whichever namespace it is in. Needs no privilege.

    OSError if ``fd`` is no TAP, or its interface was deleted.
    """
    name, _ = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    _, _, mac = _IFREQ_MAC.unpack(fcntl.ioctl(fd, _SIOCGIFHWADDR, bytes(_IFREQ_MAC.size)))
    return os.fsdecode(name.rstrip(b"\0")), mac


def _refuse(name: str, error: OSError) -> NoReturn:
    if error.errno == errno.EBUSY:
        raise NetworkError(f"TAP {name} is in use by another process; end that one or choose another name") from None
    if error.errno == errno.EINVAL:
        raise NetworkError(f"{name} exists and is not a TAP of this kind; choose another name") from None
    raise refusal(f"open TAP {name}", error.errno) from None


def enable_host_interrupts(fd: int, pid: int, signal_number: int = signal.SIGIO) -> None:
    """Has the kernel send ``signal_number`` to process ``pid`` for each frame that arrives at TAP ``fd``.

    Plays the host's network interrupt. A signal below SIGRTMIN is merged with a pending one, which is what an
    interrupt line does. Frames that waited before the call raise no signal: read the TAP once after it. Raises
    NetworkError if there is no such process or the signal can't be sent.
    """
    try:
        # drivers/net/tun.c, tun_chr_fasync: switching O_ASYNC on makes the *caller* the owner. Until F_SETOWN has
        # named the right one, frames raise SIGURG, which a process ignores by default; SIGIO would end the caller.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        _set_owner(fd, pid)
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal_number)
    except OSError as error:
        disable_host_interrupts(fd)
        raise NetworkError(f"no signals from the TAP to process {pid}: {error.strerror}") from None


def _set_owner(fd: int, pid: int) -> None:
    """F_SETOWN with the rights of the user of process ``pid``; OSError if the kernel won't.

    The kernel sends the signal with the rights of whoever has set the owner, and drops it in silence where those do not
    suffice (``sigio_perm`` in fs/fcntl.c). Root's do, but a user namespace's root is not root: there nobody but the
    process's own user may signal it. So a child that has become that user sets the owner.
    """
    user = _user_of(pid)
    if user == os.getuid() == os.geteuid():
        fcntl.fcntl(fd, fcntl.F_SETOWN, pid)
        return
    child = os.fork()
    if child == 0:
        failure = errno.EPERM
        try:
            os.setresuid(user, user, user)
            fcntl.fcntl(fd, fcntl.F_SETOWN, pid)
            failure = 0
        except OSError as error:
            failure = error.errno or failure
        finally:
            os._exit(failure)
    failure = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if failure:
        raise OSError(failure, os.strerror(failure))


def _user_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("Uid:"))
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


def disable_host_interrupts(fd: int) -> None:
    """Ends what ``enable_host_interrupts`` began; harmless if it was never called."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_ASYNC)
