"""Guests of another's making: their settings, QEMU's command line, folder and socket, what is said of an end."""

from __future__ import annotations

import itertools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lab import qemu
from lab.child import reap, spawn_program
from lab.foreign import foreign_guest
from lab.rundir import RunDirectory
from lab.stack import Stack
from lab.terminal import FileRelay
from machine.config import Settings, make_settings
from machine.errors import ConfigError, SetupError
from netbackend.plan import NetworkPlan
from tests.kit.stack import eventually

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


def test_a_stack_wants_its_guest() -> None:
    """A stack whose settings say one guest and that is given another is a mistake of the program's, said in a line."""
    with pytest.raises(ConfigError):
        Stack(Settings(guest="qemu"), -1, -1, bytes(6))


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    """One line that says who has to be able to reach it."""
    parent = os.pidfd_open(os.getpid())
    words = [sys.executable, "-P", "-m", "lab.become", str(parent), "0", str(tmp_path / "nothing")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20, pass_fds=[parent])
    os.close(parent)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nobody" in done.stderr


TELL = """
( : < /dev/tty ) 2> /dev/null && echo "has a terminal"
for fd in 0 1 2; do test -t $fd && echo "terminal $fd"; done
echo session $(cut -d ' ' -f 6 /proc/self/stat) descriptors $(ls /proc/self/fd)
"""


def test_a_program_has_nothing_of_its_keepers(tmp_path: Path) -> None:
    """A session of its own without a terminal, no descriptor but its three, and what it prints is its last words."""
    with (tmp_path / "console").open("a+b") as file:
        relay = FileRelay(file.fileno())
        words = ("/bin/sh", "-c", TELL)
        child = spawn_program("guest", words, (), Path("/"), os.sched_getaffinity(0), relay)
        try:
            assert child.process.wait(20) == 0
            assert relay.last_words() == f"session {child.process.pid} descriptors 0 1 2 3"  # 3: of ls itself
        finally:
            reap([child], 1.0)
            relay.close()


def test_a_program_takes_along_what_it_has_started(tmp_path: Path) -> None:
    """A child that the program left running, in a session of its own, is gone when the program is."""
    if os.geteuid() != 0:
        pytest.skip("PID namespaces are root's")
    with (tmp_path / "console").open("a+b") as file:
        relay = FileRelay(file.fileno())
        words = ("/bin/sh", "-c", "setsid sleep 60 & echo started; sleep 60")
        child = spawn_program("guest", words, (), Path("/"), os.sched_getaffinity(0), relay)
        try:
            program = psutil.Process(child.process.pid)
            assert eventually(lambda: [p.name() for p in program.children(recursive=True)] == ["sleep", "sleep"])
            orphans = program.children(recursive=True)
        finally:
            reap([child], 1.0)
            relay.close()
        assert not any(process.is_running() for process in orphans)
