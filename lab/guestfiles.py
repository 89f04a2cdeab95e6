"""What a user gives a foreign guest: a disk, a kernel, a QEMU, KVM. Looked at before anything is started.

QEMU would refuse most of it as well, but late, in words of its own, and on the guest's console. What needs rights that
QEMU does not have (it runs as nobody) is opened here, with those of whoever starts the stack, and handed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import stat
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

from lab.child import start_program
from lab.complaint import last_line
from lab.guestimage import LEAST_MEMORY_MIB
from machine.config import Settings
from machine.errors import ConfigError, WorldswitchError
from machine.process import drop_privileges

__all__ = ["check_files", "open_disk", "open_kvm"]

KVM: Final = "/dev/kvm"
_KVM_GET_API_VERSION: Final = 0xAE00  # include/uapi/linux/kvm.h
_KVM_VERSION: Final = 12  # the only one there has been since Linux 2.6.22

_FORMATS: Final = {  # what a file that is no raw image begins with -> what it is
    b"QFI\xfb": "qcow2",
    b"QED\0": "qed",
    b"KDMV": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vpc",
}
_FLOCK: Final = struct.Struct("@hhqqi0q")  # struct flock: type, whence, start, length, pid (fcntl(2))
_OLDEST_QEMU: Final = (10, 1)  # the first with vfio-user-pci
_VERSION: Final = re.compile(r"QEMU emulator version (\d{1,4})\.(\d{1,4})")
_DEVICE: Final = '"vfio-user-pci"'  # in its list of devices
_PATIENCE_SECONDS: Final = 20.0
_GRACE_SECONDS: Final = 2.0  # from the end of what it prints to its own
_MOST_BYTES: Final = 1 << 20  # of what it prints; the list of devices has some 30 kB
_UNITS: Final = {"M": 1, "G": 1024}


def check_files(settings: Settings) -> None:
    """ConfigError, one line, for memory, kernel, initrd or a QEMU that will not do."""
    own = settings.kernel is not None or settings.initrd is not None or settings.disk is not None
    mib = int(settings.memory[:-1]) * _UNITS[settings.memory[-1]]
    if not own and mib < LEAST_MEMORY_MIB:
        raise ConfigError(
            f"--memory {settings.memory}: the stock guest does not start with less than {LEAST_MEMORY_MIB}M"
        )
    for option in ("kernel", "initrd"):
        path = getattr(settings, option)
        if path is not None:
            _check_readable(option, path)
    if settings.qemu is not None:
        _check_qemu(settings.qemu)


def open_disk(path: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    """A raw disk image or block device, opened twice: for both, and for reading only. They are closed by ``undo``.

    ConfigError if it cannot be opened, or is something else.
    """
    fds = []
    try:
        for access in (os.O_RDWR, os.O_RDONLY):
            fds.append(os.open(path, access | os.O_CLOEXEC | os.O_NONBLOCK))  # a FIFO is not waited for
            undo.callback(os.close, fds[-1])
        mode = os.fstat(fds[0]).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise ConfigError(f"--disk {path}: neither a file nor a block device")
        if _is_locked(fds[0]):
            raise ConfigError(f"--disk {path}: in use, by the guest of another stack or another QEMU")
        start = os.pread(fds[0], max(map(len, _FORMATS)), 0)
    except OSError as error:
        raise ConfigError(f"--disk {path}: {error.strerror}") from None
    found = next((name for magic, name in _FORMATS.items() if start.startswith(magic)), None)
    if found is not None:
        raise ConfigError(f"--disk {path}: a {found} image, not a raw one: qemu-img convert -O raw {path} disk.raw")
    return tuple(fds)


def _is_locked(fd: int) -> bool:
    """Whether a QEMU uses the image: it locks bytes 100 to 299 of it (block/file-posix.c, RAW_LOCK_PERM_BASE)."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 100, 200, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted))
    return bool(kind != fcntl.F_UNLCK)


def open_kvm(undo: contextlib.ExitStack, path: str = KVM) -> int:
    """A descriptor of KVM's device, closed by ``undo``. ConfigError, with the way round it, if there is no KVM."""
    instead = "use --accel tcg"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, fd)
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
    except FileNotFoundError:
        raise ConfigError(f"--accel kvm: there is no {path} (a machine without virtualization?): {instead}") from None
    except OSError as error:
        raise ConfigError(f"--accel kvm: {path}: {error.strerror}: {instead}") from None
    if version != _KVM_VERSION:
        raise ConfigError(f"--accel kvm: {path} has version {version}, not {_KVM_VERSION}: {instead}")
    return fd


def _check_readable(option: str, path: str) -> None:
    """ConfigError unless the user that QEMU will run as can read the file: tried out by a process that becomes it."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            drop_privileges()
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            status = 0
        except OSError as error:
            status = error.errno or status
        except WorldswitchError:  # not root: then this is who QEMU runs as
            status = 0
        finally:
            os._exit(status)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise ConfigError(
            f"--{option} {path}: {os.strerror(number)} for user nobody, as whom QEMU runs: "
            "put it where everybody can read it"
        )


def _check_qemu(program: str) -> None:
    """ConfigError unless it is a QEMU that speaks vfio-user."""
    found = _VERSION.search(_output(program, "--version"))
    if found is None:
        raise ConfigError(f"--qemu {program} is no QEMU: it does not answer --version like one")
    version = tuple(map(int, found.groups()))
    if version < _OLDEST_QEMU:
        oldest, here = (".".join(map(str, numbers)) for numbers in (_OLDEST_QEMU, version))
        raise ConfigError(f"--qemu {program} is version {here}; vfio-user-pci came with {oldest}")
    if _DEVICE not in _output(program, "-device", "help"):
        raise ConfigError(f"--qemu {program} was built without vfio-user-pci")


def _output(program: str, *arguments: str) -> str:
    """What it prints, run as it would be run: without privileges or a network (``lab.become``)."""
    cpus = os.sched_getaffinity(0)
    process = start_program(
        [program, *arguments], (), Path("/"), cpus, stdin=subprocess.DEVNULL, output=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        printed = _read(process.stdout.fileno(), time.monotonic() + _PATIENCE_SECONDS)
        status = process.wait(_GRACE_SECONDS)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ConfigError(f"--qemu {program} does not come to an end when asked for {arguments[0]}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):  # children that it may have left included, by whatever name
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    text = printed.decode(errors="replace")
    if status:
        words_of = last_line(text).removeprefix("worldswitch: ") or "it prints nothing"
        raise ConfigError(f"--qemu {program} cannot be run as QEMU: status {status}: {words_of}")
    return text


def _read(fd: int, deadline: float) -> bytes:
    """All that comes until the end of file. TimeoutError if it has not come by ``deadline``, or is too much."""
    printed = bytearray()
    while len(printed) < _MOST_BYTES:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        data = os.read(fd, 65536)
        if not data:
            return bytes(printed)
        printed += data
    raise TimeoutError
