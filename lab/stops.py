"""Requests to end: every signal that would end the process, or a connection that somebody hung up.

A signal handler that raised could do so between the making of a thing and the note that it was made. So whoever makes
stacks looks for requests where it can stop, between two steps and in poll() (``StopRequests``); all the others, which
have their ``finally`` blocks, are interrupted as by Ctrl-C (``interruptible``).

Which signals that are is said by exclusion: one that nobody has thought of would otherwise end the process on the spot,
and leave everything behind without a word. Signals that were ignored when the program started stay ignored, which is
what nohup(1) and a shell's ``&`` rely on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

from machine.errors import SignalledError, StartInterruptedError

__all__ = [
    "ASKED_TO_END",
    "Interruption",
    "StopRequests",
    "end_requests",
    "exit_status_of",
    "interruptible",
    "signal_name",
]

ASKED_TO_END: Final = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
"""How a user ends what runs for as long as he likes: no failure. Any other signal is none that we are used to."""

# signal(7): what of all signals does not end a process, or cannot be taken as a request.
_NOT_REQUESTS: Final = frozenset(
    (
        *(signal.SIGKILL, signal.SIGSTOP),  # cannot be caught
        *(signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),  # are ignored unless somebody wants them
        *(signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),  # stop the process, or have it go on
        *(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them: the write fails instead, with EPIPE or EFBIG
        # Raised by the instruction that is at fault, which would be tried again, and for ever, after a handler.
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
    )
)
_SAME_REQUEST_SECONDS: Final = 15.0

Handler = Callable[[int, FrameType | None], None]


def end_requests() -> list[int]:
    """The numbers of all signals that are requests to end here: that would end the process, and are not ignored."""
    return sorted(
        number
        for number in map(int, signal.valid_signals())
        if number not in _NOT_REQUESTS and signal.getsignal(number) not in (signal.SIG_IGN, None)
    )


@contextlib.contextmanager
def _caught(handler: Handler) -> Iterator[None]:
    previous: dict[int, Any] = {}
    try:
        for number in end_requests():
            previous[number] = signal.signal(number, handler)
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


class Interruption(KeyboardInterrupt):
    """Signal ``number`` asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal_name(number))
        self.number = number


def exit_status_of(interruption: KeyboardInterrupt) -> int:
    """What a shell would have as the status of a program that the signal ended; a plain one is Ctrl-C."""
    return 128 + (interruption.number if isinstance(interruption, Interruption) else signal.SIGINT)


def signal_name(number: int) -> str:
    """SIGQUIT for 3; "signal 36" for a real-time signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block such a signal raises Interruption, in the main thread.

    Those that follow soon are the same user's impatience, and must not interrupt the clean-up that the first has begun.
    """
    raised = -_SAME_REQUEST_SECONDS

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        now = time.monotonic()
        if now - raised >= _SAME_REQUEST_SECONDS:
            raised = now
            raise Interruption(number)

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handler to be set
        yield
        return
    with _caught(interrupt):
        yield


class StopRequests:
    """Notes the signals within its ``with`` block; once asked to stop, it stays asked. Main thread only."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watched: int | None = None
        self._handlers = contextlib.ExitStack()
        self.signal_number = 0

    def __enter__(self) -> StopRequests:
        self._handlers.enter_context(_caught(self._note))
        return self

    def __exit__(self, *_: object) -> None:
        self._handlers.close()
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self.signal_number:
            self.signal_number = number
            os.write(self._writer, b"\0")

    def watch(self, fd: int | None) -> None:
        """From now on ``fd``, when readable or hung up, is a request too; None: no longer."""
        self._watched = fd

    @property
    def fds(self) -> tuple[int, ...]:
        """Readable once there is a request."""
        return (self._reader,) if self._watched is None else (self._reader, self._watched)

    def check(self) -> None:
        """StartInterruptedError if there is a request."""
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        if poll.poll(0):
            raise StartInterruptedError("the start was interrupted; everything is removed again")

    @property
    def exit_status(self) -> int:
        """What a shell would have as the status of a program that the signal ended."""
        return 128 + (self.signal_number or signal.SIGINT)

    def check_usual(self) -> None:
        """SignalledError if what came was a signal, but not one by which a user ends what runs."""
        if self.signal_number and self.signal_number not in ASKED_TO_END:
            error = SignalledError(f"ended by {signal_name(self.signal_number)}")
            error.exit_status = self.exit_status
            raise error
