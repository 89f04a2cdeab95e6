"""Doorbells: each strategy between two processes, early returns, signal handlers, the spin handshake."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import posix_ipc
import pytest

from machine import signalpipe
from machine.doorbell import BELL_SIGNAL, DOORBELLS, EventfdBell, SemaphoreBell, SignalBell, SpinBell

pytestmark = pytest.mark.timeout(60, method="signal")  # a thread would be hit by signals that the tests block

ROUNDS = 300
WORD, FLAG, SECOND, SECOND_FLAG = 0, 8, 16, 24


@pytest.fixture
def words() -> memoryview:
    """A page of words that a forked child shares."""
    return memoryview(mmap.mmap(-1, 4096)).cast("Q")


@pytest.fixture
def clean_signals() -> Iterator[None]:
    """No bell signal is left pending or blocked, and SIGUSR2 is as it was."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handler = signal.getsignal(signal.SIGUSR2)
    yield
    signal.pthread_sigmask(signal.SIG_BLOCK, {BELL_SIGNAL})
    while signal.sigtimedwait({BELL_SIGNAL}, 0) is not None:
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGUSR2, handler)


class Maker:
    """Makes bells of one kind; the owner is the process that calls."""

    def __init__(self, kind: str, words: memoryview) -> None:
        self.kind = kind
        self.words = words
        self.fds: list[int] = []

    def channel(self, flag: int, loads: int = 50) -> Callable[[int], Any]:
        """A function of the owner's pid that opens one bell, for its owner and for those who ring it."""
        if self.kind == "signal":
            return self._pipe()
        if self.kind == "semaphore":
            semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, mode=0o600)
            semaphore.unlink()
            return lambda _pid: SemaphoreBell(semaphore)
        fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.fds.append(fd)
        if self.kind == "eventfd":
            return lambda _pid: EventfdBell(fd)
        return lambda _pid: SpinBell(fd, [(self.words, flag)], loads)

    def _pipe(self) -> Callable[[int], SignalBell]:
        ends = signalpipe.make()
        self.fds += ends

        def open_bell(pid: int) -> SignalBell:
            mine = pid == os.getpid()
            bell = SignalBell(ends[not mine], mine=mine)
            if mine:
                bell.own()
            return bell

        return open_bell


@pytest.fixture(params=DOORBELLS)
def maker(request: pytest.FixtureRequest, words: memoryview, clean_signals: None) -> Iterator[Maker]:
    """Each strategy in turn."""
    maker = Maker(request.param, words)
    yield maker
    for fd in maker.fds:
        os.close(fd)


def echo(words: memoryview, mine: Any, theirs: Any) -> None:
    """The child: answers each number in WORD with the same number in SECOND."""
    for number in range(1, ROUNDS + 1):
        while words[WORD] != number:
            mine.wait(words, WORD, number - 1)
        words[SECOND] = number
        theirs.ring()


def forked(body: Callable[[], None]) -> int:
    """The pid of a child that runs ``body`` and ends, with status 1 if that raises, in 30 s at most."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 30)
        body()
        status = 0
    finally:
        os._exit(status)


@contextmanager
def later(number: int) -> Iterator[None]:
    """Sends this process a signal in 20 ms, from a thread, while the block runs."""
    timer = threading.Timer(0.02, os.kill, (os.getpid(), number))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_ping_pong_between_processes(maker: Maker, words: memoryview):
    """Hundreds of round trips between two processes: no ring is lost, whichever side is quicker."""
    to_parent, to_child = maker.channel(FLAG), maker.channel(SECOND_FLAG)
    parent = os.getpid()
    mine = to_parent(parent)

    def child() -> None:
        bell = to_child(os.getpid())
        words[SECOND_FLAG + 1] = 1  # its signal is blocked, and its pipe its own
        echo(words, bell, to_parent(parent))

    pid = forked(child)
    while not words[SECOND_FLAG + 1]:
        time.sleep(0.001)
    theirs = to_child(pid)
    for number in range(1, ROUNDS + 1):
        words[WORD] = number
        theirs.ring()
        while words[SECOND] != number:
            mine.wait(words, SECOND, number - 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_ring_before_the_wait_is_not_lost(maker: Maker, words: memoryview):
    """Rung first, waited for later: the wait returns at once, though the word is as it was."""
    bell = maker.channel(FLAG)(os.getpid())
    words[FLAG] = 1  # spin: a ringer that looked while the owner was on its way to sleep
    bell.ring()
    bell.wait(words, WORD, 0)


def test_poke_from_a_handler_ends_the_wait(maker: Maker, words: memoryview):
    """A signal handler that pokes makes the wait in progress return, so that its caller looks at memory again."""
    bell = maker.channel(FLAG, 0)(os.getpid())
    hits = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        hits.append(1)
        bell.poke()

    signal.signal(signal.SIGUSR2, handler)
    with later(signal.SIGUSR2):
        while not hits:
            bell.wait(words, WORD, 0)
    assert hits == [1]


def test_poke_ends_wait_either(maker: Maker, words: memoryview):
    """The same for a wait on two words."""
    bell = maker.channel(FLAG, 0)(os.getpid())
    hits = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        hits.append(1)
        bell.poke()

    signal.signal(signal.SIGUSR2, handler)
    with later(signal.SIGUSR2):
        while not hits:
            bell.wait_either((words, WORD, 0), (words, SECOND, 0))
    assert hits == [1]


def test_a_poke_before_the_wait_is_not_lost(maker: Maker, words: memoryview):
    """The handler ran just before the wait began: the wait returns all the same."""
    bell = maker.channel(FLAG, 0)(os.getpid())
    bell.poke()
    bell.wait(words, WORD, 0)


def test_rings_add_up_without_harm(maker: Maker, words: memoryview):
    """A hundred rings that nobody waited for make waits return early, at most once each, and break nothing."""
    bell = maker.channel(FLAG, 0)(os.getpid())
    words[FLAG] = 1
    for _ in range(100):
        bell.ring()
    bell.wait(words, WORD, 0)
    words[WORD] = 1
    for _ in range(99):
        words[FLAG] = 1
        bell.ring()
        bell.wait(words, WORD, 0)


# -- spin: the handshake before it sleeps ------------------------------------------------------------------


@pytest.fixture
def eventfd() -> Iterator[int]:
    """A non-blocking one, so that a test sees whether there was a ring."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def rings(fd: int) -> int:
    """How often the eventfd was rung since the last look."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_spin_rings_only_a_sleeper(words: memoryview, eventfd: int):
    """No system call while the owner is looking; one when its flag says that it sleeps."""
    bell = SpinBell(eventfd, [(words, FLAG)])
    bell.ring()
    assert rings(eventfd) == 0
    words[FLAG] = 1
    bell.ring()
    assert rings(eventfd) == 1


def test_spin_returns_without_sleeping_when_the_word_changes(words: memoryview, eventfd: int):
    """A word that has changed already is seen while spinning; the flag is never raised."""
    bell = SpinBell(eventfd, [(words, FLAG)])
    words[WORD] = 1
    bell.wait(words, WORD, 0)
    assert words[FLAG] == 0


class Watched:
    """Words that change while their owner is between "I sleep" and its last look."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.looks = 0

    def __getitem__(self, index: int) -> int:
        self.looks += 1
        return 1 if self.words[FLAG] else 0


def test_spin_looks_again_after_raising_its_flag(words: memoryview, eventfd: int):
    """A change that the ringer made before it could see the flag is seen by the owner's last look: no sleep."""
    bell = SpinBell(eventfd, [(words, FLAG)], 7)
    watched = Watched(words)
    bell.wait(watched, WORD, 0)  # type: ignore[arg-type]
    assert watched.looks == 8
    assert words[FLAG] == 0


def test_spin_raises_every_flag_and_lowers_it(words: memoryview):
    """An owner with ringers on two pages is asleep for both, and for neither afterwards."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    bell = SpinBell(fd, [(words, FLAG), (words, SECOND_FLAG)], 0)
    seen = []

    def ring() -> None:
        while not (words[FLAG] and words[SECOND_FLAG]):
            time.sleep(0.001)
        seen.append((words[FLAG], words[SECOND_FLAG]))
        words[WORD] = 1
        bell.ring()

    ringer = threading.Thread(target=ring)
    ringer.start()
    while words[WORD] == 0:
        bell.wait_either((words, WORD, 0), (words, SECOND, 0))
    ringer.join()
    os.close(fd)
    assert seen == [(1, 1)]
    assert (words[FLAG], words[SECOND_FLAG]) == (0, 0)


def test_spin_wait_either_sees_the_second_word(words: memoryview, eventfd: int):
    """Either word ends the wait, without a ring."""
    bell = SpinBell(eventfd, [(words, FLAG)])
    words[SECOND] = 1
    bell.wait_either((words, WORD, 0), (words, SECOND, 0))
    assert words[FLAG] == 0
