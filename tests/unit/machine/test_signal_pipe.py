"""Signals by pipe: one byte, one signal, whatever the users are; nobody blocks, nobody is killed, nothing is lost."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from machine import signalpipe
from machine.doorbell import BELL_SIGNAL, SignalBell
from machine.launch import IRQ_SIGNAL
from tests.unit.machine.test_process_life import output

pytestmark = pytest.mark.timeout(60, method="signal")  # a thread would take the signals that the tests block

SIGNALS = [BELL_SIGNAL, IRQ_SIGNAL]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Read end, write end."""
    ends = signalpipe.make()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def hits() -> Iterator[list[int]]:
    """The signals that came, in order."""
    found: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        found.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_signals_are_harmless_and_cannot_be_lost(number: int):
    """Standard ones, which are merged instead of queued within a limit, and ignored by who has no handler yet."""
    assert number < signal.SIGRTMIN
    signal.raise_signal(number)  # would end this process if its default action were to


@pytest.mark.parametrize("number", SIGNALS)
def test_each_byte_is_a_signal(pipe: tuple[int, int], hits: list[int], number: int):
    """A hundred writes that nobody drains raise a hundred signals."""
    signalpipe.own(pipe[0], number)
    send = signalpipe.sender(pipe[1])
    for _ in range(100):
        send()
    assert hits == [number] * 100


def test_bytes_from_before_count(pipe: tuple[int, int], hits: list[int]):
    """What was sent before the pipe had an owner raises the signal when it has one."""
    signalpipe.sender(pipe[1])()
    signalpipe.own(pipe[0], IRQ_SIGNAL)
    assert hits == [IRQ_SIGNAL]


def test_a_full_pipe_does_not_hold_its_writer_up(pipe: tuple[int, int], hits: list[int]):
    """The owner has been told already; once it has drained, each byte is a signal again."""
    signalpipe.own(pipe[0], IRQ_SIGNAL)
    fcntl.fcntl(pipe[0], fcntl.F_SETPIPE_SZ, 4096)  # as small as its reader can make it
    send = signalpipe.sender(pipe[1])
    for _ in range(5000):
        send()
    assert len(hits) >= 4096
    signalpipe.drain(pipe[0])
    hits.clear()
    send()
    assert hits == [IRQ_SIGNAL]


def test_draining_nothing(pipe: tuple[int, int]):
    """An empty pipe is no error: a signal may come from elsewhere."""
    signalpipe.drain(pipe[0])


def test_a_pipe_without_a_reader_is_silence():
    """The owner has ended: nobody to tell, no SIGPIPE, no exception."""
    read_end, write_end = signalpipe.make()
    os.close(read_end)
    signalpipe.sender(write_end)()
    os.close(write_end)


def test_writers_do_not_share_their_flags(pipe: tuple[int, int]):
    """One writer that makes its end block, and fills the pipe, does not make another one's write block."""
    mine = signalpipe.writer(pipe[1])
    os.set_blocking(pipe[1], True)
    assert not os.get_blocking(mine)
    send = signalpipe.sender(mine)
    for _ in range(70_000):
        send()
    started = time.monotonic()
    send()
    assert time.monotonic() - started < 1.0
    os.close(mine)


def test_a_full_queue_of_signals_loses_none(pipe: tuple[int, int], hits: list[int]):
    """RLIMIT_SIGPENDING is the user's, and another of its processes may use it up: the signal comes all the same."""
    before = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    signalpipe.own(pipe[0], IRQ_SIGNAL)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, before[1]))
    try:
        signalpipe.sender(pipe[1])()
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, before)
    assert hits == [IRQ_SIGNAL]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become two other users")
def test_between_users_that_may_not_signal_each_other():
    """Writer and owner are two users, kill() is refused, and the signal arrives; the reader cannot become a writer."""
    assert (
        output("""
        import os, signal, time
        from machine import signalpipe
        from machine.launch import IRQ_SIGNAL
        read_end, write_end = signalpipe.make()
        ready, go = os.pipe()
        answer, said = os.pipe()
        owner = os.fork()
        if owner == 0:
            os.setresuid(20001, 20001, 20001)
            signal.pthread_sigmask(signal.SIG_BLOCK, {IRQ_SIGNAL})
            signalpipe.own(read_end, IRQ_SIGNAL)
            os.write(go, b"x")
            came = signal.sigtimedwait({IRQ_SIGNAL}, 10)
            try:
                os.open(f"/proc/self/fd/{read_end}", os.O_WRONLY)
            except PermissionError:
                os.write(said, b"came" if came else b"lost")
            os._exit(0)
        os.read(ready, 1)
        if os.fork() == 0:
            os.setresuid(20002, 20002, 20002)
            try:
                os.kill(owner, IRQ_SIGNAL)
            except PermissionError:
                signalpipe.sender(write_end)()
            os._exit(0)
        print(os.read(answer, 10).decode())
        """)
        == "came"
    )


def test_a_new_owner_takes_over(pipe: tuple[int, int], hits: list[int]):
    """The owner ends; whoever owns the same read end next gets the signals, and the writer changes nothing."""
    child = os.fork()
    if child == 0:
        signalpipe.own(pipe[0], IRQ_SIGNAL)
        os._exit(0)
    os.waitpid(child, 0)
    send = signalpipe.sender(pipe[1])
    send()
    assert hits == []
    signalpipe.own(pipe[0], IRQ_SIGNAL)
    assert hits == [IRQ_SIGNAL]
    send()
    assert len(hits) == 2


def test_the_bell_drains_its_pipe(pipe: tuple[int, int]):
    """Thousands of rings later the pipe has room: it is emptied now and then, not with each wait."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        bell, ring = SignalBell(pipe[0], mine=True), SignalBell(pipe[1], mine=False).ring
        bell.own()
        nothing = memoryview(b"")
        most = 0
        for _ in range(2000):
            ring()
            bell.wait(nothing, 0, 0)
            most = max(most, _waiting(pipe[0]))
        assert 1 < most < 1000
    finally:
        signal.sigtimedwait({BELL_SIGNAL}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _waiting(fd: int) -> int:
    """Bytes in the pipe (FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(fd, 0x541B, bytes(4)), "little")


def test_the_read_end_stays_readable_until_drained(pipe: tuple[int, int], hits: list[int]):
    """Signals that were merged leave their bytes: a drain takes all of them."""
    signalpipe.own(pipe[0], IRQ_SIGNAL)
    for _ in range(3):
        signalpipe.sender(pipe[1])()
    signalpipe.drain(pipe[0])
    poll = select.poll()
    poll.register(pipe[0], select.POLLIN)
    assert not poll.poll(0)
