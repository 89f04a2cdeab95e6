"""The control channel: msgpack maps over a SOCK_SEQPACKET socket, one message a packet.

Between the supervisor and each process it carries the launch record, "ready", live settings and failures;
between the command line and the supervisor, requests and answers. Never anything per packet.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import msgpack

from machine.errors import ControlError

__all__ = ["Channel", "Message", "pack", "unpack"]

Message = dict[str, Any]

_LARGEST: Final = 1 << 20  # a snapshot of everything is some 10 kB
_SEND_SECONDS: Final = 5.0


def pack(message: Message) -> bytes:
    """The message as msgpack. ControlError, one line, for what msgpack cannot carry: integers beyond 64 bits, say.

    Names of files may hold bytes that are no text; Python has them as lone surrogates (PEP 383), and they are sent as
    those bytes.
    """
    try:
        packed: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ControlError(f"what cannot be carried in a message: {error}") from error
    return packed


def unpack(packed: bytes) -> Any:
    """What ``pack`` has packed; ControlError if it is anything else."""
    try:
        return msgpack.unpackb(packed, unicode_errors="surrogateescape")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # more than msgpack's own: bad timestamps
        raise ControlError("it is not msgpack") from error


class Channel:
    """One end of a control connection. Not for use by two threads at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(here), cls(there)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """An end that was inherited as descriptor ``fd``."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """The socket, for poll()."""
        return self._socket.fileno()

    def send(self, message: Message, timeout: float = _SEND_SECONDS) -> None:
        """Sends one map. ControlError when the other end is gone, or has not read what was sent earlier.

        ``timeout``, in seconds: how long an end that does not read, a stopped process say, may keep its sender.
        ControlError, too, for what msgpack cannot carry.
        """
        packed = pack(message)
        self._socket.settimeout(timeout)
        try:
            self._socket.send(packed)
        except TimeoutError as error:
            raise ControlError("the other end of the control connection does not read") from error
        except OSError as error:
            raise ControlError(f"the control connection is closed ({error.strerror})") from error

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next map, or None when the other end has closed. ``timeout`` in seconds; ControlError when over."""
        self._socket.settimeout(timeout)
        try:
            packet = self._packet()
        except TimeoutError as error:
            raise ControlError("no answer on the control connection in time") from error
        except OSError as error:
            raise ControlError(f"the control connection broke ({error.strerror})") from error
        if not packet:
            return None
        try:
            message = unpack(packet)
        except ControlError as error:
            raise ControlError("a control message is not msgpack") from error
        if not isinstance(message, dict):
            raise ControlError("a control message is not a map")
        return message

    def _packet(self) -> bytes:
        try:
            return self._socket.recv(_LARGEST)
        except ConnectionResetError:  # closed with a message of ours unread: what it has said before is still there
            return self._socket.recv(_LARGEST)

    def close(self) -> None:
        """Closes this end; may happen twice."""
        self._socket.close()
