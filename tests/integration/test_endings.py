"""How stacks end: by any signal, with programs on their machines, or not quite; one line, and nothing is left."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from lab import inhabitants
from lab.rundir import RunDirectory
from netbackend import namespaces, nsfiles
from tests.kit.cli import COMMAND, alive, assert_one_line, foreground, names_of, record_of, status, up, worldswitch
from tests.kit.stack import eventually

NAME = f"end-{os.getpid()}"

EXIT = {"x86_64": 60, "aarch64": 93}  # of a thread alone: exit(), not exit_group()
HYDRA = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end, me = time.time() + 30, os.getpid()
other = os.fork() or me
if other != me:  # one of the two: their words could run into each other
    print("there", flush=True)
while time.time() < end:
    try:
        os.kill(other, 0)
    except ProcessLookupError:
        me = os.getpid()
        other = os.fork() or me
    time.sleep(0.0005)
"""
"""Two processes that ignore SIGTERM, each of which starts the other again when it is killed."""


def run_on(machine, *words):
    """A program on one of the stack's machines, started by ``exec``; it has printed a line when this returns."""
    process = subprocess.Popen(
        [*COMMAND, "exec", "--name", NAME, machine, "--", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.stdout.close()
    return process


def python(code):
    """The words that run it."""
    return sys.executable, "-c", code


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 2])
def test_an_unusual_signal_ends_a_foreground_stack_in_order(number):
    """What used to end the supervisor on the spot: one line that names it, 128 + n, and nothing is left."""
    with foreground(NAME) as process:
        record = record_of(NAME)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert complaint.startswith("worldswitch: ended by ")
    assert complaint.count("\n") == 1
    assert (alive(record), names_of(NAME)) == ([], set())


def test_an_unusual_signal_to_a_daemon_is_remembered():
    """A detached stack leaves nothing but the word why it has ended."""
    with up(NAME) as record:
        os.kill(record["supervisor"]["pid"], signal.SIGXCPU)
        assert eventually(lambda: status(NAME)["state"] == "stopped", 20)
        assert "SIGXCPU" in assert_one_line(worldswitch("status", "--name", NAME), 3)
        assert (alive(record), names_of(NAME)) == ([], {str(RunDirectory(NAME).path)})


def test_nohup_and_down_go_together():
    """A stack that ignores SIGHUP and SIGTERM from its start survives both, and `down` ends it all the same."""
    ignore = "for number in (1, 15): signal.signal(number, signal.SIG_IGN)"
    code = f"import signal, os, sys\n{ignore}\nos.execv(sys.argv[1], sys.argv[1:])"
    words = [*python(code), *COMMAND, "up", "--name", NAME]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"stack {NAME} is up")
        for number in (signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        assert status(NAME)["state"] == "running"
        assert worldswitch("down", "--name", NAME).returncode == 0
        process.communicate(timeout=20)
    assert names_of(NAME) == set()


def test_down_ends_programs_and_names_them():
    """A daemon that ignores SIGTERM, one that is stopped, and two that replace each other: all end, in bounded time."""
    with up(NAME):
        program = run_on("peer", *python(HYDRA))
        stopped = run_on("guest", *python("import os, time; print('there', flush=True); time.sleep(60)"))
        stopped.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        done = worldswitch("down", "--name", NAME)
        assert time.monotonic() - started < 20
        assert done.returncode == 0
        assert "ended what still ran on its machines: python" in done.stdout
        assert {program.wait(5), stopped.wait(5)} <= {-signal.SIGKILL, -signal.SIGTERM}
    assert names_of(NAME) == set()


@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of exit() is not known here")
def test_down_ends_a_program_whose_first_thread_has_ended():
    """To /proc it looks like a zombie, but its other thread runs on, and would on a machine that is gone."""
    code = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
        f"print('there', flush=True); ctypes.CDLL(None).syscall({EXIT[platform.machine()]}, 0)"
    )
    with up(NAME):
        program = run_on("guest", *python(code))
        try:
            assert f"(pid {program.pid}, guest)" in worldswitch("down", "--name", NAME).stdout
            assert program.wait(5) == -signal.SIGTERM
        finally:
            program.kill()
            program.wait()


def test_down_keeps_programs_if_asked():
    """--keep-programs: the stack goes, the program stays, and is named."""
    with up(NAME):
        program = run_on("host", *python("import time; print('there', flush=True); time.sleep(60)"))
        try:
            done = worldswitch("down", "--name", NAME, "--keep-programs")
            assert "these go on without it: python" in done.stdout
            assert f"(pid {program.pid}, host)" in done.stdout
            assert names_of(NAME) == set()
            assert program.poll() is None
        finally:
            program.kill()
            program.wait()


def test_programs_end_with_a_stack_that_ends_by_itself():
    """A process of the stack dies: so does what runs on its machines, and nothing holds its namespaces."""
    with foreground(NAME) as process:
        program = run_on("native", *python("import time; print('there', flush=True); time.sleep(60)"))
        os.kill(record_of(NAME)["processes"]["vmm"]["pid"], signal.SIGKILL)
        _, complaint = process.communicate(timeout=20)
        assert program.wait(5) == -signal.SIGTERM
        assert f"(pid {program.pid}, native)" in complaint


def test_down_on_one_of_the_machines_spares_who_asked():
    """`exec host -- worldswitch down`: neither it nor the shell that it was typed in is ended."""
    with up(NAME):
        code = f"import subprocess, sys; sys.exit(subprocess.run({[*COMMAND, 'down', '--name', NAME]!r}).returncode)"
        done = worldswitch("exec", "--name", NAME, "host", "--", *python(code))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"stack {NAME} is down\n"
    assert names_of(NAME) == set()


@pytest.fixture
def unremovable():
    """Takes the stack's guest namespace away, and puts a directory in its place, which is no file to be unlinked."""
    name = namespaces.namespace_name(NAME, "guest")

    def take():
        namespaces.remove(name)
        os.mkdir(nsfiles.path(name))
        return lambda: os.rmdir(nsfiles.path(name))

    yield take
    if os.path.isdir(nsfiles.path(name)):
        os.rmdir(nsfiles.path(name))


def test_a_clean_up_that_fails_says_so(unremovable):
    """What could not be removed is a state of its own, with the reason; `down` tries again, and then it is gone."""
    with up(NAME) as record:
        put_back = unremovable()
        os.kill(record["supervisor"]["pid"], signal.SIGTERM)
        assert eventually(lambda: status(NAME)["state"] == "unclean", 20)
        said = assert_one_line(worldswitch("status", "--name", NAME), 3)
        assert "not all of it could be removed (cannot remove network namespace" in said
        assert "killed" not in said
        assert "Is a directory" in assert_one_line(worldswitch("down", "--name", NAME), 1)
        put_back()
        assert "what could not be removed before is removed" in worldswitch("down", "--name", NAME).stdout
    assert names_of(NAME) == set()


def test_down_many_times_at_once():
    """Five of them for one stack: all succeed, and none leaves the others' traces."""
    with up(NAME):
        words = [*COMMAND, "down", "--name", NAME]
        every = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(5)]
        said = [process.communicate(timeout=60)[1] for process in every]
        assert [process.returncode for process in every] == [0] * 5, said
        assert names_of(NAME) == set()


def test_down_of_a_stopped_supervisor():
    """One that a signal has stopped goes on and ends its stack itself; it is not killed for being slow."""
    with up(NAME) as record:
        os.kill(record["supervisor"]["pid"], signal.SIGSTOP)
        done = worldswitch("down", "--name", NAME)
        assert (done.returncode, done.stdout) == (0, f"stack {NAME} is down\n")
    assert names_of(NAME) == set()


def test_only_namespaces_under_their_names_count():
    """Numbers of a namespace that is gone may be a container's by now: nobody is looked for by them."""
    here = os.stat("/proc/self/ns/net")
    entry = {"role": "guest", "name": "ws-nowhere-guest", "device": here.st_dev, "inode": here.st_ino, "links": []}
    record = {"supervisor": {"pid": 1, "started": 0}, "processes": {}, "network": {"namespaces": [entry]}}
    assert inhabitants.programs(record) == []
    assert inhabitants.end_programs(record) == ([], [])
