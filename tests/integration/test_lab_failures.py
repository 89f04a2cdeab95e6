"""What goes wrong with a stack, by accident or on purpose: one line, a status, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time

import pytest

from lab.clients import MOST_CLIENTS
from lab.rundir import RunDirectory
from machine.control import Channel
from machine.launch import ROLES
from netbackend import namespaces
from tests.kit.cli import alive, assert_one_line, foreground, names_of, record_of, status, up, worldswitch
from tests.kit.stack import eventually

NAME = f"fail-{os.getpid()}"
END_S = 2.0
TRIES = 8
random_delay = random.Random(os.getpid()).uniform


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_process_ends_the_stack(role):
    """Kill -9 of any process: within 2 s all are gone, one line says who died and how, the status is not 0."""
    with foreground(NAME) as process:
        record = record_of(NAME)
        started = time.monotonic()
        os.kill(record["processes"][role]["pid"], signal.SIGKILL)
        _, complaint = process.communicate(timeout=10)
        assert time.monotonic() - started < END_S
        assert process.returncode == 1
        assert complaint.count("\n") == 1
        assert f"process {role} (pid {record['processes'][role]['pid']}) was killed by SIGKILL" in complaint
        assert (alive(record), names_of(NAME)) == ([], set())


def test_a_detached_stack_says_why_it_ended():
    """After such a death of a detached stack status gives the reason; only that note is left, until down."""
    with up(NAME) as record:
        os.kill(record["processes"]["vmm"]["pid"], signal.SIGKILL)
        assert eventually(lambda: status(NAME)["state"] == "stopped")
        assert "vmm" in status(NAME)["reason"]
        assert alive(record) == []
        assert names_of(NAME) == {f"/run/worldswitch/{NAME}"}
        assert "was killed by SIGKILL" in assert_one_line(worldswitch("status", "--name", NAME), 3)
        assert "had ended by itself" in worldswitch("down", "--name", NAME).stdout
    assert names_of(NAME) == set()


@pytest.mark.parametrize("detach", [True, False])
def test_down_finishes_for_a_killed_supervisor(detach):
    """Kill -9 of the supervisor: its processes die with it, status says "dead", down removes the rest."""
    with up(NAME) if detach else foreground(NAME):
        record = record_of(NAME)
        os.kill(record["supervisor"]["pid"], signal.SIGKILL)
        assert eventually(lambda: not alive(record), END_S)
        assert status(NAME)["state"] == "dead"
        assert len(names_of(NAME)) == 5
        assert "had been killed" in worldswitch("down", "--name", NAME).stdout
        assert names_of(NAME) == set()


def test_up_finishes_for_a_killed_supervisor():
    """The next up of the name cleans, says so in a line, and comes up."""
    with up(NAME) as record:
        os.kill(record["supervisor"]["pid"], signal.SIGKILL)
        assert eventually(lambda: not alive(record))
        done = worldswitch("up", "--detach", "--name", NAME)
        assert done.returncode == 0
        assert "cleaning up after it" in done.stderr
        assert status(NAME)["state"] == "running"


def test_a_supervisor_killed_while_it_starts_leaves_nothing_that_down_does_not_find():
    """Kill -9 at random moments of the start, with named semaphores in play: down removes all of it each time."""
    for _ in range(TRIES):
        with foreground(NAME, "--doorbell", "semaphore", wait=False) as process:
            time.sleep(random_delay(0.1, 1.0))
            process.kill()
            process.wait()
            record = record_of(NAME)
            assert worldswitch("down", "--name", NAME).returncode == 0
            assert names_of(NAME) == set()
            assert not record or not alive(record)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_start_leaves_nothing(number, code):
    """A signal at any moment of the start: one line at most, the shell's status, nothing left, without down."""
    for _ in range(TRIES):
        with foreground(NAME, wait=False) as process:
            # Earlier than this the interpreter itself is still starting, and what it says is not ours.
            time.sleep(random_delay(0.15, 1.2))
            process.send_signal(number)
            said, complaint = process.communicate(timeout=10)
            came_up = said != ""
            assert process.returncode == 0 if came_up else process.returncode in (code, -number)
            assert complaint.count("\n") <= 1, complaint
            assert "Traceback" not in complaint
            assert names_of(NAME) == set()


def test_an_interrupted_detach_leaves_nothing():
    """Ctrl-C while up --detach waits ends the daemon's start, too."""
    for _ in range(TRIES // 2):
        with foreground(NAME, "--detach", wait=False) as process:
            time.sleep(random_delay(0.15, 0.8))
            process.send_signal(signal.SIGINT)
            said, complaint = process.communicate(timeout=10)
            if said:  # it was up before the signal came; the interpreter may have been on its way out already
                assert process.returncode in (0, -signal.SIGINT)
                continue
            assert process.returncode in (130, -signal.SIGINT), complaint
            assert eventually(lambda: names_of(NAME) == set())


def test_many_signals_during_the_end_change_nothing():
    """An impatient user: repeated Ctrl-C does not interrupt the clean-up."""
    with foreground(NAME) as process:
        for _ in range(20):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            time.sleep(0.005)
        _, complaint = process.communicate(timeout=5)
        assert (process.returncode, complaint, names_of(NAME)) == (0, "", set())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--mode", "3.0"), 2),
        (("--link", "1 parsec"), 2),
        (("--cpus", "9999"), 2),
        (("--config", "/nowhere.toml"), 2),
        (("--pcap", "/no/such/folder/file"), 1),
        (("--pcap", "/"), 1),
        (("--pcap", "/dev/full"), 1),
    ],
)
@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_bad_input_is_one_line(options, code, detach):
    """A start that cannot succeed: one line, not 0, nothing left, in the foreground as detached."""
    assert_one_line(worldswitch("up", "--name", NAME, *options, *detach), code)
    assert names_of(NAME) == set()


def test_a_namespace_of_that_name_is_not_ours():
    """Somebody else's namespace under a planned name is refused, and still there afterwards."""
    taken = namespaces.namespace_name(NAME, "peer")
    made = namespaces.create(taken)
    try:
        assert "is not ours" in assert_one_line(worldswitch("up", "--name", NAME), 1)
        assert namespaces.identity(taken) == made
    finally:
        namespaces.remove(taken)
    assert names_of(NAME) == set()


def test_exec_needs_a_running_stack():
    """Exec without a stack is one line."""
    assert "is absent" in assert_one_line(worldswitch("exec", "--name", NAME, "guest", "--", "true"), 1)


def test_rubbish_on_the_control_socket_harms_nothing():
    """Bad requests, silence and hang-ups leave the supervisor serving."""
    with up(NAME):
        path = str(RunDirectory(NAME).socket)
        for rubbish in (b"\xc1", b"\x01", b"\x80", b"x" * 65536, None):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(path)
                if rubbish is not None:
                    client.send(rubbish)
        idle = []
        for _ in range(40):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            idle.append(client)
            client.connect(path)
        for client in idle:
            client.close()
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(path)
        channel = Channel(client)
        channel.send({"command": "dance"})
        assert channel.receive(2)["event"] == "failed"
        channel.close()
        assert status(NAME)["state"] == "running"


def test_a_stack_with_too_many_clients_is_busy():
    """Sixteen connections without a word: `status` and `set` say "busy", in one line, and not "is ending"."""
    with up(NAME), contextlib.ExitStack() as silent:
        for _ in range(MOST_CLIENTS):
            client = silent.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.connect(str(RunDirectory(NAME).socket))
        assert "busy" in assert_one_line(worldswitch("status", "--name", NAME), 1)
        assert "busy" in assert_one_line(worldswitch("set", "--name", NAME, "mode=ports"), 1)
        silent.close()
        assert status(NAME)["mode"] == "2.0"


def test_a_damaged_record_is_kept():
    """A record that cannot be read is refused, not lost: what it listed may still be there."""
    with up(NAME) as record:
        os.kill(record["supervisor"]["pid"], signal.SIGKILL)
        assert eventually(lambda: not alive(record))
        file = RunDirectory(NAME).path / "record.msgpack"
        whole = file.read_bytes()
        file.write_bytes(b"junk")
        for words in (("up",), ("down",), ("status",)):
            assert "is damaged" in assert_one_line(worldswitch(*words, "--name", NAME), 1)
        assert file.read_bytes() == b"junk"
        file.write_bytes(whole)
        assert worldswitch("down", "--name", NAME).returncode == 0
    assert names_of(NAME) == set()
