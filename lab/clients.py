"""The supervisor's control socket: who is connected, who has said nothing for too long, who has to come again.

A client sends one request and gets one answer. Until the request is there it costs a place, of which there are few;
so a client that says nothing loses its place after a while, and one that finds none is told so. Only root can
connect (the run directory is root's), but a program that hangs is as good at taking places as one that means it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final

from machine.control import Channel, Message
from machine.errors import ControlError, StackError

__all__ = ["MOST_CLIENTS", "SILENT_SECONDS", "Clients"]

MOST_CLIENTS: Final = 16
SILENT_SECONDS: Final = 5.0
"""How long a client may be connected without a request."""

_BACKLOG: Final = 64
_DEAF_SECONDS: Final = 0.5  # after a connection that could not be taken for want of a descriptor or memory
_SEND_SECONDS: Final = 1.0
_BUSY: Final = {
    "event": "failed",
    "message": "the stack is busy: too many programs are connected to it; try again in a moment",
    "status": StackError.exit_status,
}


class Clients:
    """``listener``: bound, non-blocking; it stays the caller's. ``clock``: seconds, monotonic."""

    def __init__(self, listener: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        listener.listen(_BACKLOG)
        self._listener = listener
        self._clock = clock
        self._deaf_until = 0.0
        self._connected: dict[int, tuple[Channel, float]] = {}  # by descriptor, in order of coming; and until when

    @property
    def fds(self) -> tuple[int, ...]:
        """What to poll: the listener, unless it has to rest, and each client's connection."""
        listeners = () if self._deaf_until else (self._listener.fileno(),)
        return (*listeners, *self._connected)

    def seconds_left(self) -> float | None:
        """Until the next client has been silent for too long, or the listener has rested; None: nobody waits."""
        ends = [end for _, end in self._connected.values()][:1] + [self._deaf_until] * bool(self._deaf_until)
        return max(0.0, min(ends) - self._clock()) if ends else None

    def drop_silent(self) -> None:
        """Hangs up on those who have said nothing for too long; and the listener has rested, if it had to."""
        now = self._clock()
        if self._deaf_until <= now:
            self._deaf_until = 0.0
        for fd, (client, end) in list(self._connected.items()):
            if end <= now:
                del self._connected[fd]
                client.close()

    def serve(self, fd: int, answer: Callable[[Message], Message]) -> None:
        """What is to be done for ``fd``, one of ``fds`` and readable: a new client, or a request."""
        if fd == self._listener.fileno():
            self._accept()
        elif fd in self._connected:
            client, _ = self._connected.pop(fd)
            with contextlib.closing(client), contextlib.suppress(ControlError):
                request = client.receive(0.0)
                if request is not None:
                    _send(client, answer(request))

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:  # the client is gone already
            return
        except OSError:  # the client stays in the queue, so the listener stays readable: to poll it would be to spin
            self._deaf_until = self._clock() + _DEAF_SECONDS
            return
        client = Channel(connection)
        if len(self._connected) < MOST_CLIENTS:
            self._connected[client.fileno()] = client, self._clock() + SILENT_SECONDS
            return
        with contextlib.closing(client), contextlib.suppress(ControlError):
            _send(client, _BUSY)

    def close(self) -> None:
        """Hangs up on everybody."""
        for client, _ in self._connected.values():
            client.close()
        self._connected = {}


def _send(client: Channel, answer: Message) -> None:
    """``answer``, or why it cannot be carried: what a process of the stack has stored may be anything."""
    try:
        client.send(answer, _SEND_SECONDS)
    except ControlError as error:
        client.send({"event": "failed", "message": str(error), "status": StackError.exit_status}, _SEND_SECONDS)
