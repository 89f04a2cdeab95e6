"""Guests that do not run, and cards that cannot be had, with a real QEMU: what is said, and what goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lab import qemu
from lab.guestfiles import KVM
from lab.guestimage import find_qemu
from lab.rundir import RunDirectory
from tests.guest.machine import running
from tests.kit.cli import COMMAND, assert_one_line, names_of, record_of, status, up, worldswitch
from tests.kit.stack import eventually

NAME = f"troubles-{os.getpid()}"
OPTIONS = ("--guest", "qemu", "--profile", "fast", "--link", "none")


class Monitor:
    """A QMP conversation."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        assert eventually(path.exists)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rw")
        self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> dict[str, object]:
        """The answer to a command; the events before it do not count."""
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._lines.flush()
        while True:
            line = self._lines.readline()
            assert line, "QEMU has closed its monitor"
            message: dict[str, object] = json.loads(line)
            if "event" not in message:
                return message

    def close(self) -> None:
        """QEMU serves the next one."""
        self._lines.close()
        self._socket.close()


def troubles(name: str = NAME) -> list[str]:
    """As status has them."""
    found: list[str] = status(name)["troubles"]
    return found


def test_a_guest_that_qemu_has_stopped() -> None:
    """Stopped by QEMU, and by the kernel: status says so, in both forms, and again that all is well."""
    with up(NAME, *OPTIONS) as record:
        assert troubles() == []
        monitor = Monitor(RunDirectory(NAME).guest / qemu.MONITOR)
        monitor.ask("stop")
        monitor.close()
        assert troubles() == ["the guest does not run: QEMU says 'paused'"]
        assert "TROUBLE: the guest does not run" in worldswitch("status", "--name", NAME).stdout
        monitor = Monitor(RunDirectory(NAME).guest / qemu.MONITOR)
        monitor.ask("cont")
        monitor.close()
        assert troubles() == []
        pid = record["processes"]["guest"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        silent = "QEMU does not say within 2 s what its guest does"
        assert troubles() == [f"guest is stopped by a signal: kill -CONT {pid}", silent]
        os.kill(record["processes"]["guest"]["pid"], signal.SIGCONT)
        assert eventually(lambda: troubles() == [])


def test_a_kernel_that_panics() -> None:
    """Its last words are in the status, where "running" was all that was said."""
    with running(*OPTIONS[2:]) as guest:
        guest.console.run("(sleep 0.2; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
        assert eventually(lambda: any("Kernel panic - not syncing" in line for line in troubles(guest.name)), 20.0)


def test_a_card_that_is_taken(tmp_path: Path) -> None:
    """A QEMU that adds a second card of the same server is told why not, and its guest runs on."""
    path = tmp_path / "nic.sock"
    words = [*COMMAND, "serve", str(path), "--name", NAME]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"stack {NAME} serves")
        options = qemu.client_options("64M", str(path))
        control = tmp_path / "monitor.sock"
        words = [
            *find_qemu(),
            "-nodefaults",
            "-display",
            "none",
            "-S",
            *options,
            "-qmp",
            f"unix:{control},server=on,wait=off",
        ]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as client:
            monitor = Monitor(control)
            card = {"driver": "vfio-user-pci", "id": "second", "socket": {"type": "unix", "path": str(path)}}
            for _ in range(2):
                assert "busy" in str(monitor.ask("device_add", **card)["error"])
            assert monitor.ask("query-status")["return"] == {"status": "prelaunch", "running": False}
            assert client.poll() is None
            monitor.close()
            client.terminate()
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    assert names_of(NAME) == set()


@pytest.mark.parametrize("memory", ["file", "own"])
def test_memory_that_the_card_cannot_reach(tmp_path: Path, memory: str) -> None:
    """A client whose memory is a file, or its own: QEMU may run on, and status says what is wrong in one line."""
    path = tmp_path / "nic.sock"
    words = [*COMMAND, "serve", str(path), "--name", NAME]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"stack {NAME} serves")
        backend = f"memory-backend-file,id=memory,size=64M,share=on,mem-path={tmp_path / 'ram'}"
        if memory == "own":
            backend = "memory-backend-ram,id=memory,size=64M"
        options = qemu.client_options("64M", str(path))
        options[options.index("-object") + 1] = backend
        client = subprocess.Popen(
            [*find_qemu(), "-nodefaults", "-display", "none", *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            assert eventually(lambda: client.poll() is not None or troubles())
            if client.poll() is None:
                assert len(troubles()) == 1
                assert "memfd" in troubles()[0]
        finally:
            client.kill()
            client.communicate()
        assert eventually(lambda: troubles() == [])
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


@pytest.mark.skipif(not Path(KVM).exists(), reason=f"there is no {KVM}")
def test_kvm_for_a_qemu_without_rights() -> None:
    """QEMU, as nobody, gets the device that only root may open, and gets past its initialisation."""
    with up(NAME, *OPTIONS, "--accel", "kvm") as record:
        pid = record["processes"]["guest"]["pid"]
        time.sleep(1)
        assert any(os.readlink(fd) == "anon_inode:kvm-vm" for fd in Path(f"/proc/{pid}/fd").iterdir())
        assert status(NAME)["state"] == "running"
    assert names_of(NAME) == set()


def test_a_disk_in_use(tmp_path: Path) -> None:
    """A second stack with the same image is refused in one line, and leaves nothing."""
    image = tmp_path / "disk.img"
    image.write_bytes((b"\xfa\xf4").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    second = f"{NAME}b"[-20:].lstrip("-")
    with up(NAME, *OPTIONS, "--disk", str(image)):
        assert record_of(NAME)["settings"]["disk"] == str(image)
        done = worldswitch("up", "--detach", "--name", second, *OPTIONS, "--disk", str(image))
        line = assert_one_line(done, 2)
        assert f"--disk {image}: in use" in line
        assert names_of(second) == set()
