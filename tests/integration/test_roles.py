"""What the processes of a running stack have, and have not, of the machine they run on; what `up` leaves open."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cli import COMMAND, record_of, up, worldswitch

NAME = f"r-{secrets.token_hex(4)}"
NOBODY = "65534"


@pytest.fixture(scope="module")
def pids() -> Iterator[dict[str, int]]:
    """Role -> process id, of a detached stack."""
    with up(NAME) as record:
        yield {role: identity["pid"] for role, identity in record["processes"].items()}


def of(pid: int, name: str) -> str:
    """A file of /proc/PID."""
    return Path(f"/proc/{pid}/{name}").read_text()


def fields(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    return dict(line.split(":\t", 1) for line in of(pid, "status").splitlines() if ":\t" in line)


def limit(pid: int, name: str) -> list[str]:
    """A soft and a hard limit of /proc/PID/limits."""
    line = next(line for line in of(pid, "limits").splitlines() if line.startswith(name))
    return line.removeprefix(name).split()[:2]


def test_each_has_a_session_of_its_own(pids: dict[str, int]) -> None:
    """No role shares a session with anybody, has a controlling terminal, or a descriptor that is one."""
    for pid in pids.values():
        _, _, rest = of(pid, "stat").rpartition(") ")
        session, terminal = rest.split()[3:5]
        assert (session, terminal) == (str(pid), "0")
        targets = {number: os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
        assert targets["0"] == "/dev/null"
        assert targets["1"] == targets["2"]
        assert targets["1"].startswith("pipe:")
        assert not [
            target for target in targets.values() if target.startswith(("/dev/pts", "/dev/tty", "/dev/console"))
        ]


def test_no_role_holds_a_file(pids: dict[str, int]) -> None:
    """Apart from /dev/null and the TAP, all that a role has open was made for it: pages, pipes, eventfds, sockets."""
    for pid in pids.values():
        targets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
        made = ("pipe:", "socket:", "anon_inode:", "/dev/shm/worldswitch-")
        assert {target for target in targets if not target.startswith(made)} <= {"/dev/null", "/dev/net/tun"}


def test_no_role_is_in_the_hosts_network(pids: dict[str, int]) -> None:
    """Each is in a network namespace of its own, with nothing in it, neither ours nor a machine's of the stack."""
    spaces = [os.readlink(f"/proc/{pid}/ns/net") for pid in (*pids.values(), os.getpid())]
    assert len(set(spaces)) == len(spaces)
    for pid in pids.values():
        assert [line.split(":")[0].strip() for line in of(pid, "net/dev").splitlines()[2:]] == ["lo"]


def test_each_has_process_numbers_of_its_own(pids: dict[str, int]) -> None:
    """A role is the first process of its PID namespace: it can name, and signal, nobody but itself."""
    spaces = [os.readlink(f"/proc/{pid}/ns/pid") for pid in (*pids.values(), os.getpid())]
    assert len(set(spaces)) == len(spaces)
    assert all(fields(pid)["NSpid"].split()[-1] == "1" for pid in pids.values())


def test_each_has_given_up_its_rights(pids: dict[str, int]) -> None:
    """User nobody, no capability, none to come, a seccomp filter, no process or thread to start, no file to grow."""
    for pid in pids.values():
        status = fields(pid)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {NOBODY}
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["Threads"] == "1"
        assert limit(pid, "Max processes") == ["0", "0"]
        assert limit(pid, "Max file size") == [str(16 << 20)] * 2


def start(**options: Any) -> str:
    """``up --detach`` as a child with ``options`` of Popen; the name of its stack."""
    name = f"r-{secrets.token_hex(4)}"
    done = subprocess.run(
        [*COMMAND, "up", "--detach", "--name", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=40,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return name


def test_a_daemon_keeps_nothing_of_its_callers(tmp_path: Path) -> None:
    """A lock and a pipe that `up --detach` inherited are free when it has returned, although the stack is up."""
    reader, writer = os.pipe()
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    name = start(pass_fds=(writer, lock))
    try:
        os.close(writer)
        os.close(lock)
        assert os.read(reader, 1) == b""
        again = os.open(tmp_path / "lock", os.O_RDWR)
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(again)
        assert record_of(name)["state"] == "running"
    finally:
        os.close(reader)
        worldswitch("down", "--name", name)
