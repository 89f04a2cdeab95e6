"""Load programs: how they start, what is heard of them, and that they end; the relay's copying."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from lab.load import inside
from lab.load.place import Place, check_running, first_line, output, started
from lab.load.relay import pump
from machine.errors import BenchError, StackError

SLEEP = ("sleep", "60")


def python(program):
    """The command that runs a line of Python."""
    return [sys.executable, "-c", program]


def test_a_program_ends_with_the_block():
    """SIGTERM ends it; one that ignores that is killed."""
    ignores = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with started(SLEEP) as polite, started(python(ignores)) as stubborn:
        first_line(stubborn, "stubborn", 10)
    assert polite.returncode == -signal.SIGTERM
    assert stubborn.returncode == -signal.SIGKILL


def test_a_program_ends_with_who_measures():
    """Even by SIGKILL, and even a program that knows nothing of it."""
    starter = (
        "import time; from lab.load.place import started\n"
        "with started(['sleep', '60']) as program:\n    print(program.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(python(starter), stdout=subprocess.PIPE, text=True) as measurer:
        program = psutil.Process(int(measurer.stdout.readline()))
        while program.name() != "sleep":  # before it has exec'd, it is still the launcher
            time.sleep(0.01)
        measurer.kill()
    assert psutil.wait_procs([program], timeout=5)[1] == []


def test_a_program_keeps_to_its_cpus():
    """The launcher pins it before it becomes the program."""
    cpu = min(os.sched_getaffinity(0))
    with started(python("import os; print(os.sched_getaffinity(0))"), cpus=(cpu,)) as process:
        assert output(process, "it", 10) == f"{{{cpu}}}\n"


def test_a_place_that_is_not_there_is_one_line():
    """StackError before anything is started."""
    with pytest.raises(StackError, match="no network namespace ws-none-guest; is the stack up"):
        started(SLEEP, Place("ws-none-guest", "198.18.0.2")).__enter__()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nonexistent/program",), "status 127: cannot run /nonexistent/program: No such file or directory"),
        (python("import sys; sys.exit('out of luck')"), "status 1: out of luck"),
        (python("print('so it goes'); raise SystemExit(3)"), "status 3: so it goes"),
    ],
)
def test_a_program_that_fails_says_why(command, reason):
    """BenchError has the status and the last thing it printed."""
    with started(command) as process, pytest.raises(BenchError, match=f"it failed with {reason}"):
        output(process, "it", 10)


def test_a_program_that_takes_too_long_is_given_up():
    """Both kinds of wait have a limit."""
    with started(SLEEP) as process:
        with pytest.raises(BenchError, match=r"sleep said nothing within 0.05 s"):
            first_line(process, "sleep", 0.05)
        with pytest.raises(BenchError, match=r"sleep did not end within 0.05 s"):
            output(process, "sleep", 0.05)
        check_running(process, "sleep")
        process.kill()
        process.wait()
        with pytest.raises(BenchError, match="sleep ended early: status -9"):
            check_running(process, "sleep")


def test_the_rest_is_there_after_the_first_line():
    """first_line takes not one byte too many; a program that ends first, or never ends a line, is an error."""
    with started(python("print('first\\nsecond')")) as process:
        assert first_line(process, "it", 10) == "first"
        assert output(process, "it", 10) == "second\n"
    with started(python("import sys; sys.exit('no')")) as process, pytest.raises(BenchError, match="not start: no"):
        first_line(process, "it", 10)
    with started(python("print('x' * 9999)")) as process, pytest.raises(BenchError, match="more than 4096 bytes"):
        first_line(process, "it", 10)


def test_a_launcher_whose_parent_is_gone_ends(monkeypatch):
    """The parent may end before the kernel knows what to do about it."""
    code = "import sys; from lab.load import inside; sys.exit(inside.main(['-', '-', '1', 'echo', 'orphan']))"
    done = subprocess.run(python(code), capture_output=True, timeout=10, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert inside.UNCHANGED == "-"


@pytest.fixture
def wires():
    """Two datagram pairs, (far end, TAP's stand-in) each: like a TAP, they keep frames apart and don't block."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def test_the_relay_moves_whole_frames_in_order(wires):
    """Frames of any length up to the largest arrive as they were; when nothing waits, nothing happens."""
    (far_a, tap_a), (far_b, tap_b) = wires
    move = pump(tap_a.fileno(), tap_b.fileno())
    frames = [bytes([n]) * length for n, length in enumerate((14, 60, 1514, 1518))]
    for frame in frames:
        far_a.send(frame)
    assert (move(), move()) == (4, 0)
    assert [far_b.recv(4096) for _ in frames] == frames


def test_the_relay_takes_turns(wires):
    """A direction that never runs dry gives way after a burst, and loses nothing by it."""
    (far_a, tap_a), (far_b, tap_b) = wires
    move = pump(tap_a.fileno(), tap_b.fileno())
    sent = 0
    while sent < 1000:
        try:
            far_a.send(bytes(60))
            sent += 1
        except BlockingIOError:
            break
    bursts = []
    while burst := move():
        bursts.append(burst)
        for _ in range(burst):
            try:
                far_b.recv(4096)
            except BlockingIOError:
                break
    assert sum(bursts) == sent
    assert max(bursts) <= 64


def test_a_frame_without_room_is_dropped(wires):
    """A sink that takes no more neither blocks the relay nor ends it."""
    (far_a, tap_a), (_, tap_b) = wires
    move = pump(tap_a.fileno(), tap_b.fileno())
    moved = 0
    for _ in range(2000):
        far_a.send(bytes(60))
        moved += move()
    assert moved == 2000
