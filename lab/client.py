"""The command line's side of the control socket: one request, one answer."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Final

from lab.preflight import require_root
from lab.rundir import RunDirectory, running_record
from machine.control import Channel, Message, pack
from machine.errors import ConfigError, ControlError, StackError
from machine.livecontrol import UNTIL

__all__ = ["ask", "request"]

_PATIENCE_SECONDS: Final = 12.0
_ANSWERED_SECONDS: Final = 8.0  # within which a request is carried out or refused, so that the answer still finds us


def request(name: str, message: Message) -> Message:
    """The answer of stack ``name`` to a request that it may refuse; StackError if it isn't running."""
    require_root()
    try:
        pack(message)
    except ControlError as unfit:  # the user's words, and no fault of the supervisor's
        raise ConfigError(str(unfit)) from None
    directory = RunDirectory(name)
    running_record(directory)
    answer = ask(directory, message)
    if answer is None:
        raise StackError(f"stack {name!r} is just ending")
    if answer.get("event") == "failed":
        error = StackError(answer["message"])
        error.exit_status = answer.get("status", error.exit_status)
        raise error
    return answer


def ask(directory: RunDirectory, request: Message) -> Message | None:
    """The supervisor's answer; None if it is ending, or has ended. StackError if it takes far too long."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(connection)
    try:
        connection.settimeout(_PATIENCE_SECONDS)
        connection.connect(str(directory.socket))
        return _exchange(channel, request | {UNTIL: int((time.monotonic() + _ANSWERED_SECONDS) * 1e9)})
    except (ConnectionError, FileNotFoundError):
        return None
    except (OSError, ControlError) as error:
        if isinstance(error.__cause__, ConnectionError):
            return None
        raise StackError(
            f"the supervisor of stack {directory.name!r} does not answer ({error}); `worldswitch down` ends it"
        ) from None
    finally:
        channel.close()


def _exchange(channel: Channel, request: Message) -> Message | None:
    """The answer; or what the supervisor has said before it hung up, without having heard the request: "busy"."""
    try:
        channel.send(request)
    except ControlError:
        with contextlib.suppress(ControlError):
            said = channel.receive(0.0)
            if said is not None:
                return said
        raise
    return channel.receive(_PATIENCE_SECONDS)
