"""Requests to end, as descriptors to poll: SIGINT, SIGTERM, SIGHUP, or a connection that somebody hung up.

A signal handler that raised could do so between the making of a thing and the note that it was made. This one
only writes to a pipe, and the supervisor looks at the pipe where it can stop: between two steps, and in poll().
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Any, Final

from machine.errors import StartInterruptedError

__all__ = ["StopRequests"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequests:
    """Catches the signals within its ``with`` block; once asked to stop, it stays asked. Main thread only."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watched: int | None = None
        self._previous: dict[int, Any] = {}
        self.signal_number = 0

    def __enter__(self) -> StopRequests:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
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
