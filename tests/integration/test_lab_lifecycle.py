"""``worldswitch`` up, exec, status, down: the life of a stack as its user sees it."""

from __future__ import annotations

import os
import signal
import subprocess

import jsonschema
import pytest

from lab.report import schema
from machine.launch import ROLES
from tests.kit.cli import COMMAND, alive, assert_one_line, foreground, names_of, status, up, worldswitch

NAME = f"life-{os.getpid()}"


@pytest.fixture(scope="module")
def record():
    """The record of a detached stack of the paper's profile, CPU 0, at a small wire."""
    with up(NAME, "--link", "10mbit") as made:
        yield made


def execute(machine, *command):
    """A program on a machine of the stack."""
    return worldswitch("exec", "--name", NAME, machine, "--", *command)


def test_status_names_what_is_there(record):
    """The report is valid, says "running", and its processes are the recorded ones, alive."""
    report = status(NAME, "--links")
    jsonschema.validate(report, schema())
    assert report["state"] == "running"
    assert {role: process["pid"] for role, process in report["processes"].items()} == {
        role: record["processes"][role]["pid"] for role in ROLES
    }
    assert report["settings"]["link"] == "10mbit"
    assert report["addresses"] == {
        f"{m}": f"198.18.0.{n}" for m, n in zip(("guest", "host", "peer", "native"), (2, 1, 3, 4), strict=True)
    }
    assert len(report["links"]) == 7
    assert all(process["rss_bytes"] > 1 << 20 for process in report["processes"].values())


def test_counters_count_what_the_driver_did(record):
    """After the boot: port accesses, switches and PIC programming have been counted, and add up."""
    counters = status(NAME)["counters"]
    assert counters["io_in"] + counters["io_out"] == counters["io_switched"] + counters["io_handled_in_vmm"]
    assert counters["io_switched"] > 0
    assert counters["pic_accesses"] > 0
    assert counters["world_switches"] >= counters["io_switched"]


def test_the_table_is_for_people(record):
    """The human form names the stack, its processes, counters and ports."""
    done = worldswitch("status", "--name", NAME)
    assert done.returncode == 0
    for word in (NAME, "guest", "vmapp", "io_out", "0x1012", "198.18.0.3"):
        assert word in done.stdout


@pytest.mark.parametrize("machine", ["guest", "host", "peer", "native"])
def test_exec_enters_the_namespace_and_the_cpus(record, machine):
    """A program runs in its machine's namespace; on the stack's CPU, or for the peer on the others."""
    code = "import os; print(os.stat('/proc/self/ns/net').st_ino, *sorted(os.sched_getaffinity(0)))"
    inode, *cpus = map(int, execute(machine, COMMAND[0], "-c", code).stdout.split())
    entries = {entry["role"]: entry for entry in record["network"]["namespaces"]}
    assert inode == entries[machine]["inode"]
    every = os.sched_getaffinity(0)
    assert set(cpus) == ({0} if machine != "peer" else every - {0} or every)


def test_exec_is_the_program(record):
    """Exit status, signals, standard streams and default signal actions are the program's own."""
    assert execute("guest", "sh", "-c", "exit 42").returncode == 42
    assert execute("guest", "sh", "-c", "kill -9 $$").returncode == -9
    assert execute("peer", "sh", "-c", "echo out; echo err >&2").stdout == "out\n"
    assert execute("host", "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/", 126), ("/no/such", 127), ("", 127)])
def test_exec_of_what_cannot_run_is_one_line(record, command, code):
    """A missing program is 127, one that may not be run 126, as in a shell."""
    assert_one_line(execute("guest", command), code)


def test_a_name_is_taken_once(record):
    """Up of a name that is up fails in one line and harms nothing."""
    for words in ((), ("--detach",)):
        assert "is up" in assert_one_line(worldswitch("up", "--name", NAME, *words), 1)
    assert status(NAME)["state"] == "running"


def test_two_stacks_live_side_by_side(record):
    """A second stack has namespaces of its own; ending it does not touch the first."""
    other = f"{NAME}-b"
    with up(other, "--profile", "fast") as second:
        assert status(other)["profile"] == "fast"
        assert status(NAME)["profile"] == "paper"
        spaces = [{entry["inode"] for entry in r["network"]["namespaces"]} for r in (record, second)]
        assert len(spaces[0] | spaces[1]) == 8
        assert "is down" in worldswitch("down", "--name", other).stdout
        assert alive(second) == []
    assert sorted(alive(record)) == sorted(ROLES)
    assert names_of(other) == set()


def test_down_twice_is_fine():
    """The second down has nothing to do, says so, and succeeds."""
    name = f"{NAME}-c"
    with up(name) as record:
        assert f"stack {name} is down" in worldswitch("down", "--name", name).stdout
        assert (alive(record), names_of(name)) == ([], set())
        again = worldswitch("down", "--name", name)
        assert again.returncode == 0
        assert "nothing to do" in again.stdout
    assert status(name)["state"] == "absent"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_foreground_stack_ends_by_signal(number):
    """Ctrl-C, kill, a closed terminal: a running stack ends at once, status 0, and nothing is left."""
    name = f"{NAME}-d"
    with foreground(name) as process:
        process.send_signal(number)
        _, complaint = process.communicate(timeout=5)
        assert (process.returncode, complaint) == (0, "")
        assert names_of(name) == set()


def test_down_ends_a_foreground_stack():
    """Down works for a stack of another terminal; its supervisor ends with status 0."""
    name = f"{NAME}-e"
    with foreground(name) as process:
        assert "is down" in worldswitch("down", "--name", name).stdout
        assert process.wait(5) == 0


def test_detach_leaves_the_terminal_alone():
    """The daemon has a session of its own and none of our descriptors: reading our pipe to its end does not hang."""
    name = f"{NAME}-f"
    with up(name) as record:
        pid = record["supervisor"]["pid"]
        assert os.getsid(pid) != os.getsid(0)
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)} == {f"/run/worldswitch/{name}/log"}
        assert os.readlink(f"/proc/{pid}/cwd") == "/"


@pytest.mark.parametrize("doorbell", ["signal", "semaphore", "eventfd", "spin"])
def test_every_doorbell_comes_up_and_goes(doorbell):
    """Each doorbell boots the guest; afterwards no semaphore is left."""
    with up(f"{NAME}-g", "--doorbell", doorbell):
        assert status(f"{NAME}-g")["settings"]["doorbell"] == doorbell


def test_an_idle_supervisor_sleeps(record):
    """Nothing to do is no work: the supervisor uses next to no CPU time."""

    def ticks():
        with open(f"/proc/{record['supervisor']['pid']}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))

    before = ticks()
    subprocess.run(["sleep", "1"], check=True)
    assert ticks() - before <= 1


def test_a_capture_is_written(tmp_path):
    """--pcap, relative to where the user is: what the guest sends is in the file when the stack is down."""
    name = f"{NAME}-h"
    done = worldswitch("up", "--detach", "--name", name, "--pcap", "x.pcapng", cwd=tmp_path)
    try:
        assert done.returncode == 0, done.stderr
        worldswitch("exec", "--name", name, "guest", "--", "ping", "-c", "1", "-W", "1", "198.18.0.3")
    finally:
        worldswitch("down", "--name", name)
    data = (tmp_path / "x.pcapng").read_bytes()
    assert data[:4] == b"\x0a\x0d\x0d\x0a"
    assert bytes((198, 18, 0, 3)) in data
