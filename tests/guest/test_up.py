"""``worldswitch up --guest qemu`` as a user meets it: the terminal, switching off, and ends that nobody asked for."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.bench.qemuload import tcp_report
from lab.load.ping import ping
from lab.rundir import RunDirectory
from tests.guest.machine import running
from tests.kit.cli import COMMAND, alive, assert_one_line, names_of, record_of, up, worldswitch
from tests.kit.stack import eventually

NAME = f"up-{os.getpid()}"
OPTIONS = ("--guest", "qemu", "--profile", "fast", "--link", "none")
BOOT_S = 60.0
PROMPT = b"guest# "


class Terminal:
    """The user's end of the terminal that ``worldswitch up`` runs on."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.fd = fd
        self.process = process
        self.seen = b""

    def expect(self, text: bytes, seconds: float = 10.0) -> None:
        """Reads on until ``text`` has come; what has come up to then does not count again."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen[-500:]
            if select.select([self.fd], (), (), left)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:  # nobody has the other end any more
                    assert text in self.seen, self.seen[-500:]
        self.seen = self.seen.partition(text)[2]

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)


@contextmanager
def terminal(*options: str) -> Iterator[Terminal]:
    """The program on a terminal of its own, with the guest at its prompt."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "up", "--name", NAME, *OPTIONS, *options],
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    try:
        user = Terminal(here, process)
        user.expect(b"starting a guest under QEMU", 5.0)  # the first sign of life, long before the others
        user.expect(b"is up", BOOT_S)
        user.expect(b"the guest boots now")
        user.expect(PROMPT, BOOT_S)
        yield user
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        worldswitch("down", "--name", NAME)
        os.close(here)
        os.close(there)


def test_the_terminal_is_the_console() -> None:
    """Commands and Ctrl-C reach the guest; poweroff ends the stack with status 0, a line, and a sane terminal."""
    with terminal() as user:
        user.type(b"sleep 100\r")
        user.expect(b"sleep 100")
        time.sleep(0.5)
        user.type(b"\x03")
        user.expect(PROMPT)
        user.type(b"echo four-$((2+2))\r")
        user.expect(b"four-4")
        user.type(b"poweroff -f\r")
        user.expect(b"is switched off")
        assert user.process.wait(10) == 0
        assert termios.tcgetattr(user.fd)[3] & termios.ICANON
    assert names_of(NAME) == set()


def test_the_way_out() -> None:
    """Ctrl-A X ends QEMU and with it the stack."""
    with terminal() as user:
        user.type(b"\x01x")
        assert user.process.wait(10) == 0
    assert names_of(NAME) == set()


def test_a_killed_qemu_ends_the_stack() -> None:
    """Kill -9 of QEMU: one line says so, the status is not 0, and the terminal is as it was."""
    with terminal() as user:
        os.kill(record_of(NAME)["processes"]["guest"]["pid"], signal.SIGKILL)
        user.expect(b"was killed by SIGKILL")
        assert user.process.wait(10) == 1
        assert termios.tcgetattr(user.fd)[3] & termios.ICANON
    assert names_of(NAME) == set()


def test_nothing_outlives_a_killed_supervisor() -> None:
    """Kill -9 of the supervisor: QEMU dies like the others, and down removes the rest."""
    with up(NAME, *OPTIONS) as record:
        assert sorted(alive(record)) == ["guest", "vmapp", "vmm"]
        os.kill(record["supervisor"]["pid"], signal.SIGKILL)
        assert eventually(lambda: not alive(record))
        assert "had been killed" in worldswitch("down", "--name", NAME).stdout
    assert names_of(NAME) == set()


def test_qemu_runs_without_privileges() -> None:
    """QEMU is nobody's, has no io_uring, and no network but an empty one of its own."""
    with up(NAME, *OPTIONS) as record:
        pid = record["processes"]["guest"]["pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert int(status["CapEff"], 16) == 0
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
        assert not any("io_uring" in os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())


def test_qemu_has_a_cpu_for_itself() -> None:
    """Where there are two CPUs or more, QEMU's threads share one, and vmm and vmapp have the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("needs two CPUs")
    with up(NAME, *OPTIONS) as record:
        pids = {role: process["pid"] for role, process in record["processes"].items()}
        for thread in Path(f"/proc/{pids['guest']}/task").iterdir():
            assert os.sched_getaffinity(int(thread.name)) == {first}
        assert os.sched_getaffinity(pids["vmm"]) == os.sched_getaffinity(pids["vmapp"]) == set(others)


def test_a_disk_is_booted(tmp_path: Path) -> None:
    """Without a kernel, the guest starts from its first disk: a boot sector that greets by the serial console."""
    greeting = b"booted from disk\r\n"
    code = b"\xba\xf8\x03" + b"".join(b"\xb0%c\xee" % letter for letter in greeting)  # mov dx, 0x3f8; mov al, out
    image = tmp_path / "disk.img"
    image.write_bytes((code + b"\xfa\xf4").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))  # cli; hlt
    with up(NAME, *OPTIONS, "--disk", str(image)):
        console = RunDirectory(NAME).console
        assert eventually(lambda: greeting.strip() in console.read_bytes(), BOOT_S)
    assert names_of(NAME) == set()


def test_one_cpu_for_all() -> None:
    """Profile paper, where QEMU, vmm and vmapp hand one CPU to each other: pings, and TCP each way."""
    with running("--profile", "paper", "--mode", "optimised") as guest:
        assert ping(guest.peer, guest.plan.guest.address, count=20, interval=0.05).lost == 0
        for direction in ("transmit", "receive"):
            assert tcp_report(guest.console, guest.peer, direction, seconds=1, omit=0)["end"]["sum_received"]["bytes"]


def test_what_a_user_may_get_wrong() -> None:
    """Files that are not there, and settings that do not fit, are one line each."""
    for options in (
        ("--kernel", "/nonexistent"),
        ("--qemu", "/nonexistent"),
        ("--disk", "/nonexistent"),
        ("--memory", "lots"),
        ("--memory", "64M"),
        ("--qemu", "/bin/true"),
        ("--disk", "/dev/null"),
        ("--kernel", "/tmp"),
        ("--accel", "hope"),
        ("--doorbell", "signal"),
    ):
        assert_one_line(worldswitch("up", "--name", NAME, *OPTIONS, *options), 2)
    assert_one_line(worldswitch("up", "--name", NAME, "--guest", "none"), 2)
    assert names_of(NAME) == set()
