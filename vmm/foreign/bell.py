"""The vmm's doorbell when its guest is behind a socket: it hears vmapp, signal handlers and the client alike.

While vmapp has the processor, a client that wants something is told to it as a guest with a trap is: the slot that
would be posted next says POSTED (``machine.world.NEXT``), and vmapp gives the processor back instead of lingering.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from machine.ring import FREE, POSTED

__all__ = ["ClientBell", "signal_pipe"]

_COARSE_SECONDS: Final = 0.005  # from here on, poll()'s milliseconds will do

_SLOT: Final = 0  # first word of the one trap slot in use: it only ever says whether the client wants something
_MANY: Final = 4096  # signals that are taken at once


def signal_pipe() -> int:
    """A descriptor that is readable once a signal has arrived, before its handler has run: one byte for each signal.

    Python runs handlers between two instructions of its own. One that is due when poll() begins would have to wait
    until poll() ends. The process has one such descriptor; call this in its main thread.
    """
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)  # full, it is readable all the same
    return readable


class ClientBell:
    """A doorbell (``machine.doorbell``) on eventfd ``fd``; ``gate``: the page with the trap slots.

    ``signals``: from ``signal_pipe``.
    """

    def __init__(self, fd: int, gate: memoryview, signals: int) -> None:
        self._fd = fd
        self._gate = gate
        self._signals = signals
        self._all: tuple[int, ...] = (fd, signals)
        self._poll = self._make_poll()
        self._pending: Callable[[], bool] = lambda: False
        self.wanted = False  # as of the last look, or the end of the last sleep: the client wants something
        self.ring: Callable[[], object] = partial(os.eventfd_write, fd, 1)
        self.poke = self.ring

    def listen(self, pending: Callable[[], bool]) -> None:
        """``pending``: whether the client has asked for something that has been received already."""
        self._pending = pending

    def watch(self, descriptors: Sequence[int]) -> None:
        """The client's descriptors are these now."""
        self._all = (self._fd, self._signals, *descriptors)
        self._poll = self._make_poll()

    def _make_poll(self) -> select.poll:
        poll = select.poll()
        for fd in self._all:
            poll.register(fd, select.POLLIN)
        return poll

    def wait(self, _words: memoryview, _index: int, _unwanted: int) -> None:
        """During a world switch: sleeps until vmapp rings, but lets it know of a client."""
        if self._gate[_SLOT] != POSTED and self._pending():
            self._gate[_SLOT] = POSTED
        if self._gate[_SLOT] == POSTED:  # it knows already; a hang-up, too, would make poll() return for ever
            self._take()
            return
        for fd, _ in self._poll.poll():
            if fd == self._fd:
                self._take()
            elif fd == self._signals:
                os.read(fd, _MANY)
            else:
                self._gate[_SLOT] = POSTED

    def wait_either(self, first: tuple[memoryview, int, int], _second: tuple[memoryview, int, int]) -> None:
        """The same."""
        self.wait(*first)

    def sleep(self, seconds: float | None) -> bool:
        """In the VMM world: until the client wants something, the bell is rung, or a signal comes.

        False when time ran out first.
        """
        if seconds is None or seconds >= _COARSE_SECONDS:
            ready = [fd for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000)]
        else:
            ready, _, _ = select.select(self._all, (), (), seconds)  # poll() counts in milliseconds
        self._note(ready)
        return bool(ready)

    def look(self) -> bool:
        """Whether the client wants something, without waiting; takes the rings so far."""
        ready = self._poll.poll(0)
        if not ready:
            return False
        self._note([fd for fd, _ in ready])
        return self.wanted

    def _note(self, ready: Sequence[int]) -> None:
        rung, signalled = self._fd in ready, self._signals in ready
        self.wanted = len(ready) > rung + signalled
        if signalled:
            os.read(self._signals, _MANY)
        if rung:
            self._take()

    def _take(self) -> None:
        """Takes all rings so far; sleeps while there is none."""
        try:
            os.eventfd_read(self._fd)
        except InterruptedError:
            pass  # a signal handler has run, and may have changed what the caller waits for

    def hurry(self) -> None:
        """The next switch is to be short: no lingering."""
        self._gate[_SLOT] = POSTED

    def attended(self) -> None:
        """The client's request is being looked at: nothing waits for the time being."""
        self._gate[_SLOT] = FREE
