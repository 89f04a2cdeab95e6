"""Doorbells: how one process tells another that a word in shared memory has changed.

A doorbell belongs to the process that sleeps on it; any number of processes may ring it. ``ring()`` comes
after the store that it announces; ``wait()`` returns when it was rung, or earlier, so that its caller always
looks at memory again. Four strategies, each the fastest somewhere:

=========== ========================================= =====================================================
signal      kill() / sigwaitinfo()                    the paper's world: traps and interrupts are signals
semaphore   sem_post() / sem_wait(), a futex          no system call when the sleeper is not asleep
eventfd     write() / read() of a kernel counter      the quickest that sleeps, on one CPU
spin        loads of the word, then an eventfd        the quickest across CPUs, at the cost of a busy CPU
=========== ========================================= =====================================================

The ordering that each gives is argued in ``machine.ring``. Spin needs one thing more: the sleeper stores
"I sleep" and then loads the word, the ringer stores the word and then loads "I sleep"; both need a full
store-load fence, or both may miss (``machine.fence``).
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import posix_ipc

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
]

DOORBELLS: Final = ("signal", "semaphore", "eventfd", "spin")
BELL_SIGNAL: Final = signal.SIGRTMIN + 2  # glibc keeps the first two for itself
SPIN_LOADS: Final = 500  # the knee measured for a saturated channel: more loads gain nothing


class Doorbell(Protocol):
    """What every strategy offers. ``words`` is the page that holds the watched words (format "Q")."""

    @property
    def ring(self) -> Callable[[], object]:
        """Anybody, after the store that it announces: wakes the owner, or makes its next wait() return at once."""

    def wait(self, words: memoryview, index: int, unwanted: int) -> None:
        """Owner only: returns when rung, or when ``words[index] != unwanted`` is seen; may return early."""

    def wait_either(self, first: tuple[memoryview, int, int], second: tuple[memoryview, int, int]) -> None:
        """Owner only: as wait(), for two (words, index, unwanted) that two different processes may change."""

    def poke(self) -> None:
        """Owner only, from a signal handler: makes the wait() in progress, or the next one, return."""


def _sleep(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except InterruptedError:
        pass  # a signal handler has run, and may have changed what the caller waits for


class EventfdBell:
    """A kernel counter: rings add up until the owner reads them, in one system call each."""

    __slots__ = ("_fd", "ring")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.ring: Callable[[], object] = partial(os.eventfd_write, fd, 1)

    def wait(self, _words: memoryview, _index: int, _unwanted: int) -> None:
        """Takes all rings so far; sleeps while there is none."""
        try:
            os.eventfd_read(self._fd)
        except InterruptedError:
            pass  # a signal handler has run, and may have changed what the caller waits for

    def wait_either(self, _first: tuple[memoryview, int, int], _second: tuple[memoryview, int, int]) -> None:
        """The same: the counter says nothing of words."""
        _sleep(self._fd)

    def poke(self) -> None:
        """Rings itself."""
        self.ring()


class SemaphoreBell:
    """A POSIX semaphore. Rings that nobody waited for add up and make later waits return early."""

    __slots__ = ("_semaphore", "ring")

    def __init__(self, semaphore: posix_ipc.Semaphore) -> None:
        self._semaphore = semaphore
        self.ring: Callable[[], object] = semaphore.release

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
    """A queued real-time signal, blocked in the owner and taken with sigwaitinfo()."""

    __slots__ = ("_signals", "ring")

    def __init__(self, pid: int) -> None:
        self.ring: Callable[[], object] = partial(os.kill, pid, BELL_SIGNAL)
        self._signals = {BELL_SIGNAL}
        if pid == os.getpid():
            signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def wait(self, _words: memoryview, _index: int, _unwanted: int) -> None:
        """Takes one signal; sleeps while none is queued."""
        signal.sigwaitinfo(self._signals)

    def wait_either(self, _first: tuple[memoryview, int, int], _second: tuple[memoryview, int, int]) -> None:
        """The same: a signal says nothing of words."""
        signal.sigwaitinfo(self._signals)

    def poke(self) -> None:
        """Signals itself; sigwaitinfo() takes it."""
        self.ring()


class SpinBell:
    """Looks at the word itself for a while, and only then sleeps on an eventfd.

    ``flags``: every (page, index) at which ringers look whether the owner sleeps; a ringer has just one.
    ``loads``: how often to look before sleeping; 0 where owner and ringer share a CPU and looking is vain.
    """

    __slots__ = ("_fd", "_fence", "_flag_index", "_flag_page", "_flags", "_loads")

    def __init__(self, fd: int, flags: list[tuple[memoryview, int]], loads: int = SPIN_LOADS) -> None:
        self._fd = fd
        self._flags = flags
        self._flag_page, self._flag_index = flags[0]
        self._loads = loads
        self._fence = make_fence()

    def ring(self) -> None:
        """Enters the kernel only if the owner's flag says that it sleeps."""
        self._fence()  # the word is out before the flag is read
        if self._flag_page[self._flag_index]:
            os.eventfd_write(self._fd, 1)

    def poke(self) -> None:
        """Ends the sleep, or the next one, whatever the flags say."""
        os.eventfd_write(self._fd, 1)

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
