"""Guests of another's making: their settings, QEMU's command line, folder and socket, what is said of an end."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import qemu
from lab.child import reap, spawn_program
from lab.foreign import ForeignGuest, foreign_guest
from lab.rundir import RunDirectory
from lab.stack import Stack
from machine.config import Settings, make_settings
from machine.errors import ConfigError, SetupError
from netbackend.plan import NetworkPlan
from vmm.vfiouser.listen import listen

PLAN = NetworkPlan("x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"guest": "human"},
        {"guest": "qemu", "doorbell": "signal"},
        {"guest": "qemu", "doorbell": "semaphore"},
        {"guest": "none", "doorbell": "spin"},
        {"guest": "qemu", "hlt": "vmm"},
        {"guest": "none", "probe_rounds": 1},
        {"guest": "qemu", "memory": "512"},
        {"guest": "qemu", "memory": "0M"},
        {"guest": "qemu", "memory": "1M,share=off"},
        {"guest": "qemu", "accel": "hvf"},
        {"guest": "qemu", "kernel": ""},
        {"guest": "qemu", "socket": "/tmp/x"},
        {"guest": "builtin", "socket": "/tmp/x"},
    ],
)
def test_settings_that_do_not_fit(wrong: dict[str, object]) -> None:
    """A foreign guest's settings are checked, alone and together; each problem is one line."""
    with pytest.raises(ConfigError) as caught:
        make_settings(wrong)
    assert "\n" not in str(caught.value)


def fake_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files where an image would be."""
    image = folder / "cache" / "image"
    image.mkdir(parents=True)
    for name in ("qemu", "vmlinuz", "initrd.img"):
        (image / name).write_bytes(b"")
    monkeypatch.setenv("WORLDSWITCH_GUEST", str(folder / "cache"))
    return image


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One network card, ours; sealed shared memory; the guest is told its address; no way out of the sandbox."""
    image = fake_image(tmp_path, monkeypatch)
    words = qemu.command(make_settings({"guest": "qemu", "memory": "256M"}), PLAN, ())
    options = dict(itertools.pairwise(words))
    assert words[0] == str(image / "qemu")
    assert options["-nic"] == "none"
    assert json.loads(options["-device"])["socket"] == {"type": "unix", "path": qemu.SOCKET}
    assert options["-object"] == "memory-backend-memfd,id=memory,size=256M,share=on"
    assert f"worldswitch.address={PLAN.guest.address}/24" in options["-append"]
    assert "spawn=deny" in options["-sandbox"]
    assert "-no-reboot" not in words


def test_what_it_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk boots itself unless a kernel is given; one's own files replace the image's, or do without an image."""
    image = fake_image(tmp_path, monkeypatch)
    mine = tmp_path / "mine"
    mine.write_bytes(b"")
    from_disk = qemu.command(make_settings({"guest": "qemu", "disk": "d"}), PLAN, (7, 8))
    assert "-kernel" not in from_disk
    assert {"fd=7,set=1", "fd=8,set=1"} <= set(from_disk)
    both = qemu.command(make_settings({"guest": "qemu", "disk": "d", "kernel": str(mine)}), PLAN, (7,))
    assert both[both.index("-kernel") + 1] == str(mine)
    assert both[both.index("-initrd") + 1] == str(image / "initrd.img")
    assert qemu.command(make_settings({"guest": "qemu", "accel": "kvm"}), PLAN, ())[-1].startswith("console=")
    monkeypatch.setenv("WORLDSWITCH_GUEST", str(tmp_path / "nothing"))
    own = {"guest": "qemu", "qemu": str(mine)}
    assert qemu.command(make_settings(own | {"disk": "d"}), PLAN, (7, 8))[0] == str(mine)
    with pytest.raises(SetupError):
        qemu.command(make_settings(own), PLAN, ())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the folder to user nobody")
def test_folder_and_socket_come_and_go(tmp_path: Path) -> None:
    """They are there for a while, for the right users only; an earlier folder's rest does no harm."""
    directory = RunDirectory("x", tmp_path)
    (directory.guest).mkdir(parents=True)
    (directory.guest / "rest").write_text("")
    settings = make_settings({"guest": "none"})
    with foreign_guest(settings, PLAN, directory, terminal=False) as guest:
        assert stat.S_IMODE((directory.guest / qemu.SOCKET).stat().st_mode) == 0o600
        assert guest.words == ()
    assert not directory.guest.exists()


def test_last_words(tmp_path: Path) -> None:
    """The last line that a program printed, made harmless; none if there is none, or it had the terminal."""
    fd = os.open(tmp_path / "console", os.O_RDWR | os.O_CREAT)
    with listen(tmp_path / "s") as listener:
        guest = ForeignGuest(listener, tmp_path, console=fd)
        assert guest.last_words() == ""
        os.write(fd, b"x" * 5000 + b"\nqemu: \x1b[31mno kernel\xff\r\n\n")
        assert guest.last_words().startswith("qemu: [31mno kernel")
        assert ForeignGuest(listener, tmp_path).last_words() == ""
    os.close(fd)


def test_a_stack_wants_its_guest() -> None:
    """A stack whose settings say one guest and that is given another is a mistake of the program's, said in a line."""
    with pytest.raises(ConfigError):
        Stack(Settings(guest="qemu"), -1, -1, bytes(6))


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    """One line that says who has to be able to reach it."""
    words = [sys.executable, "-P", "-m", "lab.become", str(os.getpid()), "0", str(tmp_path / "nothing")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nobody" in done.stderr


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.03, 0.2])
def test_ctrl_c_while_a_program_starts(tmp_path: Path, wait_s: float) -> None:
    """At whatever moment it comes, the program ends by it, and nothing is printed."""
    with (tmp_path / "console").open("w+b") as console:
        cpus = os.sched_getaffinity(0)
        child = spawn_program("guest", (shutil.which("sleep") or "sleep", "20"), (), tmp_path, cpus, console.fileno())
        try:
            time.sleep(wait_s)
            child.process.send_signal(signal.SIGINT)
            assert child.process.wait(10) == -signal.SIGINT
            assert console.read() == b""
        finally:
            reap([child], 1.0)
