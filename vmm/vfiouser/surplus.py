"""Clients that come while another one is served: each is told that the device is busy, and goes.

A hang-up alone would not do. QEMU asks for the version and waits for the answer; a connection that ends instead makes
QEMU 11.1 abort, and with it the guest that somebody tried to add a card to. An error reply makes it refuse the card.

None of them may hold anything up: their number is bounded, each is read without waiting, and one that does not send a
whole message in time is dropped.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from time import monotonic
from typing import Final, NamedTuple

from vmm.vfiouser.messages import HEADER, Command, HeaderFlag
from vmm.vfiouser.stream import Disconnected, Stream

__all__ = ["PATIENCE_SECONDS", "SurplusClients"]

PATIENCE_SECONDS: Final = 2.0
"""From the connection to the end of the first message. A client sends it at once; QEMU waits 5 s for the answer."""

_MOST: Final = 4  # at a time; one more, and the one that has been silent for longest goes
_ERROR_REPLY: Final = int(HeaderFlag.REPLY | HeaderFlag.ERROR)


class _Client(NamedTuple):
    connection: socket.socket
    stream: Stream
    deadline: float  # CLOCK_MONOTONIC, in seconds


class SurplusClients:
    """Those that have connected and not been answered, the oldest first."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: deque[_Client] = deque()

    def __bool__(self) -> bool:
        return bool(self._clients)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for input."""
        return tuple(client.connection.fileno() for client in self._clients)

    def add(self, connection: socket.socket) -> None:
        """One more; the connection is owned here from now on."""
        if len(self._clients) == _MOST:
            _end(self._clients.popleft())
        self._clients.append(_Client(connection, Stream(connection), monotonic() + PATIENCE_SECONDS))

    def serve(self) -> bool:
        """Answers those that have asked, and drops those that have gone or been silent for too long.

        Whether any has left. Makes one or two system calls for each, and never waits.
        """
        now = monotonic()
        left = [client for client in self._clients if _answered(client) or client.deadline <= now]
        for client in left:
            self._clients.remove(client)
            _end(client)
        return bool(left)

    def due_in(self) -> float | None:
        """Seconds until the next has been silent for too long; None if there is none."""
        return max(0.0, self._clients[0].deadline - monotonic()) if self._clients else None

    def close(self) -> None:
        """Ends all of them."""
        while self._clients:
            _end(self._clients.pop())


def _answered(client: _Client) -> bool:
    """Whether it has its answer, or wants none."""
    try:
        if not client.stream.next():
            return False
    except Disconnected:
        return True
    ident, command, _, flags, _ = HEADER.unpack_from(client.stream.buffer, client.stream.start)
    if command == Command.VERSION and not flags & (HeaderFlag.TYPE | HeaderFlag.NO_REPLY):
        try:
            client.connection.send(HEADER.pack(ident, command, HEADER.size, _ERROR_REPLY, errno.EBUSY))
        except OSError:  # it is gone, or reads nothing: it will not be waited for
            pass
    return True


def _end(client: _Client) -> None:
    client.stream.close()
    client.connection.close()
