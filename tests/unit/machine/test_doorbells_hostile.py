"""Doorbells whose descriptors the guest holds as well: flags changed, counters full, rings taken. Nobody is held up."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import posix_ipc
import pytest

from machine.doorbell import EventfdBell, SemaphoreBell, SpinBell, eventfd_ringer

pytestmark = pytest.mark.timeout(60, method="signal")

FULL = 2**64 - 2  # eventfd(2): the highest count; a write that would exceed it waits
NOTHING = memoryview(bytearray(64)).cast("Q")
TICK_S = 0.05
LONG_S = 1.0


@pytest.fixture
def fd() -> Iterator[int]:
    """An eventfd as the supervisor makes it."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


KINDS: dict[str, Callable[[int], Any]] = {
    "eventfd": EventfdBell,
    "spin": lambda fd: SpinBell(fd, [(memoryview(bytearray(b"\1" * 64)).cast("Q"), 0)], 0),
}


@pytest.fixture(params=KINDS)
def bell(request: pytest.FixtureRequest, fd: int) -> Any:
    """Each doorbell that sleeps on an eventfd."""
    return KINDS[request.param](fd)


@contextmanager
def ticking(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """A timer like the vmm's while the block runs; its handler runs in the main thread."""
    before = signal.signal(signal.SIGALRM, handler)
    timer = signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


def test_a_wait_on_a_non_blocking_eventfd_sleeps(bell: Any, fd: int):
    """O_NONBLOCK is everybody's: the wait neither raises nor spins, and a ring ends it at once."""
    os.set_blocking(fd, False)
    before, started = time.process_time(), time.monotonic()
    for wait in (bell.wait, lambda *word: bell.wait_either(word, word)):
        timer = threading.Timer(LONG_S / 4, bell.ring)
        timer.start()
        while not _rung(fd):
            wait(NOTHING, 0, 0)
        timer.join()
        wait(NOTHING, 0, 0)
        assert not _rung(fd)
    assert time.monotonic() - started < LONG_S
    assert time.process_time() - before < LONG_S / 10


def _rung(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def test_a_ring_that_is_taken_away_delays_the_wait_and_no_more(bell: Any, fd: int):
    """Non-blocking, and each ring read by another: the wait returns after a moment, and its caller looks."""
    os.set_blocking(fd, False)
    started = time.monotonic()
    bell.wait(NOTHING, 0, 0)
    assert time.monotonic() - started < LONG_S


def test_a_poke_finds_a_full_counter(bell: Any, fd: int):
    """From a signal handler: it returns, and the wait does, too."""
    os.eventfd_write(fd, FULL)
    bell.poke()
    bell.wait(NOTHING, 0, 0)


def test_handlers_that_poke_do_not_pile_up(bell: Any, fd: int):
    """A full counter, and a timer whose handler pokes: the program under it goes on, no handler in another's arms."""
    os.eventfd_write(fd, FULL)
    depth = [0, 0]

    def tick(_number: int, _frame: FrameType | None) -> None:
        depth[0] += 1
        depth[1] = max(depth)
        bell.poke()
        depth[0] -= 1

    with ticking(tick):
        done = time.monotonic() + 5 * TICK_S
        while time.monotonic() < done:
            pass
    assert depth == [0, 1]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_ring_finds_a_full_counter(bell: Any, fd: int, blocking: bool):
    """It comes back: at once with O_NONBLOCK, with the next signal without; no exception."""
    os.eventfd_write(fd, FULL)
    os.set_blocking(fd, blocking)
    with ticking(lambda *_: None):
        started = time.monotonic()
        bell.ring()
        eventfd_ringer(fd)()
    assert time.monotonic() - started < LONG_S
    assert os.eventfd_read(fd) == FULL


def mapped_semaphores() -> set[int]:
    """Where this process has semaphores; glibc maps each under a name of its own making."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        return {int(line.split("-")[0], 16) for line in maps if "/dev/shm/sem." in line}


def test_a_semaphore_that_cannot_count_further():
    """At SEM_VALUE_MAX ring and poke are no errors, and the wait returns."""
    before = mapped_semaphores()
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, mode=0o600)
    semaphore.unlink()
    (place,) = mapped_semaphores() - before
    ctypes.memmove(place, (2**31 - 1).to_bytes(4, "little"), 4)
    assert semaphore.value == posix_ipc.SEMAPHORE_VALUE_MAX
    bell = SemaphoreBell(semaphore)
    bell.ring()
    bell.poke()
    bell.wait(NOTHING, 0, 0)
    semaphore.close()


def test_nothing_here_needs_many_files():
    """The careful ways of ringing have no descriptors of their own."""
    used = len(os.listdir("/proc/self/fd"))
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    bells = [EventfdBell(fd) for _ in range(100)]
    assert len(os.listdir("/proc/self/fd")) == used + 1
    assert len(bells) < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.close(fd)
