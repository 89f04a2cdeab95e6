"""A machine that refuses something, and signals out of nowhere: one line each, and nothing left behind."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from machine.launch import ROLES
from tests.kit.cli import alive, names_of, status, up, worldswitch
from tests.kit.counts import FULL, sample
from tests.kit.stack import eventually

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0

LACKS: Final = {
    "no room in /run": "mount -t tmpfs -o size=4k,nr_inodes=3 none /run",
    "/run is read-only": "mount -t tmpfs -o ro none /run",
    "no room in /dev/shm": "mount -t tmpfs -o size=1m none /dev/shm",
    "no room for the last page": "mount -t tmpfs -o size=16m none /dev/shm",
    "no inode in /dev/shm": "mount -t tmpfs -o nr_inodes=1 none /dev/shm",
    "/dev/shm is read-only": "mount -t tmpfs -o ro none /dev/shm",
    "no /dev/net/tun": "mount -t tmpfs none /dev/net",
    "another device as /dev/net/tun": "mount --bind /dev/null /dev/net/tun",
    "24 descriptors": "ulimit -n 24",
    "32 descriptors": "ulimit -n 32",
    "files of 1 MiB": "ulimit -f 1024",
    "little memory": "ulimit -v 60000",
}
"""What the machine lacks -> how a shell, with mounts of its own, has it lack that."""

SCRIPT: Final = """
mount -t tmpfs none /run && mount -t tmpfs none /dev/shm && {mounts} || exit 99
( {limits} ; exec {up} ); echo "status $?"
{down} >/dev/null; echo "down $?"
echo "left" $(ls /run/netns /dev/shm /run/worldswitch 2>/dev/null | grep -v :)
"""
"""The mounts stay as they are, so that what is left is seen where it is; a limit is for ``up`` alone."""


def in_shell(script: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a shell with mounts of its own."""
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("lack", LACKS)
def test_what_the_machine_lacks_is_one_line(lack: str) -> None:
    """`up` says in one line what is missing, with a status that is not 0, and after it there is nothing to remove."""
    name = f"f-{secrets.token_hex(4)}"
    python = f"{shlex.quote(sys.executable)} -m lab"
    limited = LACKS[lack].startswith("ulimit")
    script = SCRIPT.replace("{mounts}", "true" if limited else LACKS[lack])
    script = script.replace("{limits}", LACKS[lack] if limited else "true")
    script = script.replace("{up}", f"{python} up --detach --name {name}")
    script = script.replace("{down}", f"{python} down --name {name}")
    done = in_shell(script)
    assert done.stdout.split("\n")[0] in ("status 1", "status 2"), (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("worldswitch: ")
    assert "down 0\nleft\n" in done.stdout


SIGNALS: Final = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT})
USUAL: Final = [
    ("guest", signal.SIGTERM),
    ("vmm", signal.SIGSEGV),
    ("vmapp", signal.SIGIO),
    ("vmm", signal.SIGUSR1),
    ("guest", signal.SIGRTMAX),
]


@pytest.mark.parametrize(
    ("role", "number"), sample([(role, number) for role in ROLES for number in SIGNALS], [*USUAL]), ids=str
)
def test_a_signal_from_outside_ends_a_stack_in_order_or_not_at_all(role: str, number: int) -> None:
    """A process of the stack is sent a signal: the stack goes on, or ends with one line that names the process."""
    name = f"f-{secrets.token_hex(4)}"
    with up(name) as record:
        os.kill(record["processes"][role]["pid"], number)
        time.sleep(1.0 if FULL else 0.3)
        found = status(name)
        assert found["state"] in ("running", "ending", "stopped"), found
        if found["state"] == "stopped":
            assert f"process {role}" in found["reason"]
            assert eventually(lambda: not alive(record))
        done = worldswitch("down", "--name", name)
        assert done.returncode == 0
        assert "Traceback" not in done.stderr
    assert names_of(name) == set()


def test_a_run_directory_that_fills_up_is_one_line_and_no_end() -> None:
    """/run is full while a stack runs: `set` says so and nothing changes; the stack lives, and goes when it is told."""
    name = f"f-{secrets.token_hex(4)}"
    python = f"{shlex.quote(sys.executable)} -m lab"
    script = f"""
    mount -t tmpfs -o size=1m none /run && mount -t tmpfs none /dev/shm || exit 99
    {python} up --detach --name {name} >/dev/null || exit 98
    head -c 2m /dev/zero > /run/filler 2>/dev/null
    {python} set --name {name} mode=optimised; echo "set $?"
    {python} status --name {name} --json | grep '"mode"' | head -n 1
    {python} down --name {name} >/dev/null; echo "down $?"
    echo left $(ls /run/netns /dev/shm)
    """
    done = in_shell(script)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "set 1", (done.stdout, done.stderr)
    assert lines[1] == '"mode": "2.0",'
    assert lines[2] == "down 0"
    assert done.stderr.count("\n") == 1, done.stderr
