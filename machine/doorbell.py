"""Doorbells: how one process tells another that a word in shared memory has changed.

A doorbell belongs to the process that sleeps on it; any number of processes may ring it. ``ring()`` comes
after the store that it announces; ``wait()`` returns when it was rung, or earlier, so that its caller always
looks at memory again. Four strategies, each the fastest somewhere:

=========== ========================================= =====================================================
signal      write() to a pipe / sigwaitinfo()         the paper's world: traps and interrupts are signals
semaphore   sem_post() / sem_wait(), a futex          no system call when the sleeper is not asleep
eventfd     write() / read() of a kernel counter      the quickest that sleeps, on one CPU
spin        loads of the word, then an eventfd        the quickest across CPUs, at the cost of a busy CPU
=========== ========================================= =====================================================

**In hostile hands.** The guest holds what rings the vmm and what it is rung by, and may do anything with them. It can
keep rings from itself, and so stop its own machine; vmm and vmapp go on, and hear whoever else speaks to them:

* An eventfd is one open file description, O_NONBLOCK and the counter are the guest's as well. A wait that finds the
  flag set sleeps in poll() instead, and looks again after a while, as the guest may have taken the ring. A ring that
  finds the counter full is no ring: the owner's read returns without it. Where that write blocks (the flag is clear),
  a signal ends it, and it counts as done; the vmm has its timer, and interrupts a vmapp that does not come back
  (``vmm.hostirq``). ``poke()``, from a signal handler, asks before it writes: handlers that wait for the next signal
  would starve their program.
* A semaphore is memory. One that cannot count further is as good as rung. What glibc keeps beside the count is the
  guest's to spoil, and glibc ends a process that finds it spoilt: that stack ends, in one line. Use another doorbell
  for a guest that is not trusted with its own machine.
* A pipe's ends are apart, and each writer has its own (``machine.signalpipe``).

The ordering that each gives is argued in ``machine.ring``. Spin needs one thing more: the sleeper stores
"I sleep" and then loads the word, the ringer stores the word and then loads "I sleep"; both need a full
store-load fence, or both may miss (``machine.fence``).
"""

from __future__ import annotations

import os
import platform
import select
import signal
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import posix_ipc

from machine import signalpipe
from machine.errors import ConfigError, UnsoundDoorbellError
from machine.fence import make_fence

__all__ = [
    "BELL_SIGNAL",
    "DOORBELLS",
    "Doorbell",
    "EventfdBell",
    "SemaphoreBell",
    "SignalBell",
    "SpinBell",
    "check_sound",
    "eventfd_ringer",
]

DOORBELLS: Final = ("signal", "semaphore", "eventfd", "spin")
BELL_SIGNAL: Final = signal.SIGWINCH  # merged, never lost, ignored by default; no process of ours has a terminal
SPIN_LOADS: Final = 500  # the knee measured for a saturated channel: more loads gain nothing
_WAITS_A_DRAIN: Final = 256  # honest ringers write a few bytes for each wait; the pipe holds 65536


class Doorbell(Protocol):
    """What every strategy offers. ``words`` is the page that holds the watched words (format "Q")."""

    @property
    def ring(self) -> Callable[[], object]:
        """Anybody, after the store that it announces: wakes the owner, or makes its next wait() return at once."""

    def wait(self, words: memoryview, index: int, unwanted: int) -> None:
        """Owner only: returns when rung, or when ``words[index] != unwanted`` is seen; may return early."""

    def wait_either(self, first: tuple[memoryview, int, int], second: tuple[memoryview, int, int]) -> None:
        """Owner only: as wait(), for two (words, index, unwanted) that two different processes may change."""

    @property
    def poke(self) -> Callable[[], object]:
        """Owner only, from a signal handler: makes the wait() in progress, or the next one, return."""


_STOLEN_MS: Final = 50  # how long a ring that somebody else has taken from a shared eventfd may go unnoticed


def eventfd_ringer(fd: int) -> Callable[[], None]:
    """A function that adds 1 to eventfd ``fd``, and does not insist: its reader is awake if the counter is full."""
    write = os.eventfd_write

    def ring() -> None:
        try:
            write(fd, 1)
        except (BlockingIOError, InterruptedError):
            pass  # full: with O_NONBLOCK it says so; without, it waits until a signal comes

    return ring


def _careful_ringer(fd: int) -> Callable[[], None]:
    """The same, but it asks first whether the counter is full: for signal handlers, and where nothing else is quick."""
    room = select.poll()
    room.register(fd, select.POLLOUT)
    ring = eventfd_ringer(fd)

    def poke() -> None:
        if room.poll(0):
            ring()

    return poke


def _sleep(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except InterruptedError:
        pass  # a signal handler has run, and may have changed what the caller waits for
    except BlockingIOError:
        _sleep_in_poll(fd)


def _sleep_in_poll(fd: int) -> None:
    """Waits on an eventfd that somebody has made non-blocking; the ring is left for the next wait to take."""
    rung = select.poll()
    rung.register(fd, select.POLLIN)
    rung.poll(_STOLEN_MS)


class EventfdBell:
    """A kernel counter: rings add up until the owner reads them, in one system call each."""

    __slots__ = ("_fd", "poke", "ring")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.ring: Callable[[], object] = eventfd_ringer(fd)
        self.poke: Callable[[], object] = _careful_ringer(fd)

    def wait(self, _words: memoryview, _index: int, _unwanted: int) -> None:
        """Takes all rings so far; sleeps while there is none."""
        try:
            os.eventfd_read(self._fd)
        except InterruptedError:
            pass  # a signal handler has run, and may have changed what the caller waits for
        except BlockingIOError:
            _sleep_in_poll(self._fd)

    def wait_either(self, _first: tuple[memoryview, int, int], _second: tuple[memoryview, int, int]) -> None:
        """The same: the counter says nothing of words."""
        _sleep(self._fd)


class SemaphoreBell:
    """A POSIX semaphore. Rings that nobody waited for add up and make later waits return early."""

    __slots__ = ("_semaphore",)

    def __init__(self, semaphore: posix_ipc.Semaphore) -> None:
        self._semaphore = semaphore

    def ring(self) -> None:
        """One more; a semaphore that cannot count further (SEM_VALUE_MAX) lets its owner through without."""
        try:
            self._semaphore.release()
        except (OSError, posix_ipc.Error):
            pass

    def wait(self, _words: memoryview, _index: int, _unwanted: int) -> None:
        """Takes one ring; sleeps while there is none."""
        try:
            self._semaphore.acquire()
        except posix_ipc.SignalError:
            pass  # a signal handler has run, and may have changed what the caller waits for

    def wait_either(self, first: tuple[memoryview, int, int], _second: tuple[memoryview, int, int]) -> None:
        """The same: the semaphore says nothing of words."""
        self.wait(*first)

    def poke(self) -> None:
        """Rings itself; sem_post() is safe in a handler."""
        self.ring()


class SignalBell:
    """A signal, blocked in the owner and taken with sigwaitinfo(); rung through a pipe (``machine.signalpipe``).

    ``fd``: the read end for its owner (``mine``), whose process must then ``own`` it; a write end for everybody else.
    """

    __slots__ = ("_fd", "_signals", "_waits", "poke", "ring")

    def __init__(self, fd: int, *, mine: bool) -> None:
        self._fd = fd
        self._signals = {BELL_SIGNAL}
        self._waits = 0
        self.poke: Callable[[], object] = partial(signal.raise_signal, BELL_SIGNAL)
        self.ring: Callable[[], object] = self.poke if mine else signalpipe.sender(fd)
        if mine:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def own(self) -> None:
        """Owner only, once it has its final user: rings reach this process from now on."""
        signalpipe.own(self._fd, BELL_SIGNAL)

    def wait(self, _words: memoryview, _index: int, _unwanted: int) -> None:
        """Takes the signal; sleeps while none is pending."""
        signal.sigwaitinfo(self._signals)
        self._waits += 1
        if self._waits == _WAITS_A_DRAIN:
            self._waits = 0
            signalpipe.drain(self._fd)

    def wait_either(self, first: tuple[memoryview, int, int], _second: tuple[memoryview, int, int]) -> None:
        """The same: a signal says nothing of words."""
        self.wait(*first)


class SpinBell:
    """Looks at the word itself for a while, and only then sleeps on an eventfd.

    ``flags``: every (page, index) at which ringers look whether the owner sleeps; a ringer has just one.
    ``loads``: how often to look before sleeping; 0 where owner and ringer share a CPU and looking is vain.
    """

    __slots__ = ("_fd", "_fence", "_flag_index", "_flag_page", "_flags", "_loads", "_write", "poke")

    def __init__(self, fd: int, flags: list[tuple[memoryview, int]], loads: int = SPIN_LOADS) -> None:
        self._fd = fd
        self._flags = flags
        self._flag_page, self._flag_index = flags[0]
        self._loads = loads
        self._fence = make_fence()
        self._write = eventfd_ringer(fd)
        self.poke: Callable[[], object] = _careful_ringer(fd)  # ends the sleep, or the next one, whatever the flags say

    def ring(self) -> None:
        """Enters the kernel only if the owner's flag says that it sleeps."""
        self._fence()  # the word is out before the flag is read
        if self._flag_page[self._flag_index]:
            self._write()

    def wait(self, words: memoryview, index: int, unwanted: int) -> None:
        """Looks ``loads`` times, then sleeps with its flags up."""
        for _ in range(self._loads):
            if words[index] != unwanted:
                return
        self._announce(1)
        if words[index] == unwanted:
            _sleep(self._fd)
        self._announce(0)

    def wait_either(self, first: tuple[memoryview, int, int], second: tuple[memoryview, int, int]) -> None:
        """Sleeps with its flags up, unless either word has changed."""
        self._announce(1)
        if all(words[index] == unwanted for words, index, unwanted in (first, second)):
            _sleep(self._fd)
        self._announce(0)

    def _announce(self, asleep: int) -> None:
        for page, flag in self._flags:
            page[flag] = asleep
        self._fence()  # the flag is out before the word is read again


def check_sound(kind: str, cpus: tuple[int, ...], architecture: str = platform.machine()) -> None:
    """Refuses a doorbell whose ordering this machine does not give (the argument is in ``machine.ring``)."""
    if kind not in DOORBELLS:
        raise ConfigError(f"unknown doorbell {kind!r}: choose one of {', '.join(DOORBELLS)}")
    if architecture in ("x86_64", "AMD64"):
        return
    if kind == "spin":
        raise UnsoundDoorbellError(
            f"the spin doorbell is not sound on {architecture}: it needs x86-64's store order; use eventfd"
        )
    if len(set(cpus)) != 1:
        raise UnsoundDoorbellError(
            f"on {architecture} guest, vmm and vmapp must share one CPU (--cpus 0): Python has no fence"
        )
