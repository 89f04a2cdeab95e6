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
        user.expect(b"is up", BOOT_S)
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
    """QEMU is nobody's, and has no network but an empty one of its own."""
    with up(NAME, *OPTIONS) as record:
        pid = record["processes"]["guest"]["pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert int(status["CapEff"], 16) == 0
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_what_a_user_may_get_wrong() -> None:
    """Files that are not there, and settings that do not fit, are one line each."""
    for options in (
        ("--kernel", "/nonexistent"),
        ("--qemu", "/nonexistent"),
        ("--disk", "/nonexistent"),
        ("--memory", "lots"),
        ("--accel", "hope"),
        ("--doorbell", "signal"),
    ):
        assert_one_line(worldswitch("up", "--name", NAME, *OPTIONS, *options), 2)
    assert_one_line(worldswitch("up", "--name", NAME, "--guest", "none"), 2)
    assert names_of(NAME) == set()
