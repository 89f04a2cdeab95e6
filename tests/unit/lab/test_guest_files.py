"""What a user gives a foreign guest is looked at before anything starts; each thing that will not do is one line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import guestfiles, qemu
from lab.guestfiles import check_files, open_disk, open_kvm
from machine.config import make_settings
from machine.errors import ConfigError
from netbackend.plan import NetworkPlan

GOOD = """#!/bin/sh
if [ "$1" = --version ]; then echo "QEMU emulator version 11.1.3 (x)"; else echo 'name "vfio-user-pci", bus PCI'; fi
"""


def complaint(**settings: str) -> str:
    """What is said of these settings; it is one line."""
    with pytest.raises(ConfigError) as caught:
        check_files(make_settings({"guest": "qemu"} | settings))
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def program() -> Iterator[Path]:
    """Where a script that everybody can run may be."""
    path = Path("/tmp") / f"worldswitch-test-{os.getpid()}"  # user nobody may not look into pytest's folders
    yield path
    path.unlink(missing_ok=True)


def write(path: Path, text: str) -> str:
    """Makes it a program."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\n", "is no QEMU"),
        ("#!/bin/sh\nexit 3\n", "status 3: it prints nothing"),
        ("#!/bin/sh\nprintf 'bad \\033[31mthing\\n' >&2; exit 1\n", "bad [31mthing"),
        ("#!/bin/sh\necho QEMU emulator version 9.2.0\n", "version 9.2; vfio-user-pci came with 10.1"),
        ("#!/bin/sh\necho QEMU emulator version 11.1.3\n", "without vfio-user-pci"),
        ("#!/bin/sh\nexec yes\n", "does not come to an end"),
        ("not a program", "Exec format error"),
    ],
)
def test_a_program_that_is_no_qemu(program: Path, text: str, said: str) -> None:
    """It is run as QEMU would be, asked who it is, and what is wrong is said of it by name."""
    assert said in complaint(qemu=write(program, text))


def test_a_program_that_never_ends(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, and what it has started with it."""
    monkeypatch.setattr(guestfiles, "_PATIENCE_SECONDS", 1.0)
    assert "does not come to an end" in complaint(qemu=write(program, "#!/bin/sh\nsleep 1000 & sleep 1000\n"))


def test_a_qemu(program: Path) -> None:
    """One that is new enough and has the device is taken, also with little memory and a kernel of one's own."""
    settings = {"guest": "qemu", "qemu": write(program, GOOD), "memory": "16M"}
    check_files(make_settings(settings | {"kernel": sys.executable if os.geteuid() else "/bin/sh"}))


def test_too_little_memory() -> None:
    """The stock guest is not started with less than it needs; one's own kernel or disk may go lower."""
    assert "128M" in complaint(memory="64M")
    check_files(make_settings({"guest": "qemu", "memory": "128M"}))
    check_files(make_settings({"guest": "qemu", "memory": "1G"}))
    check_files(make_settings({"guest": "qemu", "memory": "8M", "disk": "x"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="root can read what nobody cannot")
def test_a_kernel_that_nobody_can_read(tmp_path: Path) -> None:
    """Root may, user nobody may not: said before QEMU says it."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"x")
    path.chmod(0o600)
    for option in ("kernel", "initrd"):
        said = complaint(**{option: str(path)})
        assert said.startswith(f"--{option} {path}: ")
        assert "nobody" in said


@pytest.mark.parametrize("magic", [b"QFI\xfb\0\0\0\3", b"KDMV", b"vhdxfile", b"QED\0"])
def test_a_disk_that_is_not_raw(tmp_path: Path, magic: bytes) -> None:
    """A guest would take the image's own tables for its disk, and overwrite them."""
    path = tmp_path / "disk"
    path.write_bytes(magic.ljust(1024, b"\0"))
    with contextlib.ExitStack() as undo, pytest.raises(ConfigError, match="not a raw one"):
        open_disk(str(path), undo)


def test_disks(tmp_path: Path) -> None:
    """A file is opened for both and for reading; a folder, a FIFO and a device that is no disk are refused at once."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(1024))
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as undo:
        both, reading = open_disk(str(path), undo)
        os.pwrite(both, b"x", 0)
        with pytest.raises(OSError):
            os.pwrite(reading, b"x", 0)
    for wrong in (tmp_path, tmp_path / "fifo", Path("/dev/null"), tmp_path / "nothing"):
        with contextlib.ExitStack() as undo, pytest.raises(ConfigError, match=f"--disk {wrong}: "):
            open_disk(str(wrong), undo)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_in_use(tmp_path: Path) -> None:
    """An image that another QEMU has locked, even if only to read it, is said to be in use; afterwards it is free."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(1024))
    with path.open("rb") as other, contextlib.ExitStack() as undo:
        shared = struct.pack("@hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0)  # as QEMU locks for reading
        fcntl.fcntl(other.fileno(), fcntl.F_OFD_SETLK, shared)
        with pytest.raises(ConfigError, match="in use"):
            open_disk(str(path), undo)
    with contextlib.ExitStack() as undo:
        assert len(open_disk(str(path), undo)) == 2


def test_kvm_that_is_not_there(tmp_path: Path) -> None:
    """No device, or something else in its place: one line that says what to do instead."""
    (tmp_path / "kvm").touch()
    for wrong in (tmp_path / "kvm", tmp_path / "nothing", tmp_path, Path("/dev/null")):
        with contextlib.ExitStack() as undo, pytest.raises(ConfigError, match="use --accel tcg"):
            open_kvm(undo, str(wrong))


def test_kvm_is_handed_over() -> None:
    """QEMU opens the descriptor that it inherits, not the path, for which it has no rights."""
    settings = make_settings({"guest": "qemu", "accel": "kvm", "qemu": "/bin/sh", "disk": "d"})
    words = qemu.command(settings, NetworkPlan("x"), (7, 8), 9)
    assert words[words.index("-accel") + 1] == "kvm,device=/dev/fdset/2"
    assert {"fd=7,set=1", "fd=8,set=1", "fd=9,set=2"} <= set(words)
