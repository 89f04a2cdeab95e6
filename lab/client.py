"""The command line's side of the control socket: one request, one answer."""

from __future__ import annotations

import socket
from typing import Final

from lab.rundir import RunDirectory
from machine.control import Channel, Message
from machine.errors import ControlError, StackError

__all__ = ["ask"]

_PATIENCE_SECONDS: Final = 5.0


def ask(directory: RunDirectory, request: Message) -> Message:
    """The supervisor's answer; StackError if there is none within 5 s."""
    name = directory.name
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(connection)
    try:
        connection.settimeout(_PATIENCE_SECONDS)
        connection.connect(str(directory.socket))
        channel.send(request)
        answer = channel.receive(_PATIENCE_SECONDS)
    except (OSError, ControlError) as error:
        raise StackError(f"the supervisor of stack {name!r} does not answer ({error}); `worldswitch down`") from None
    finally:
        channel.close()
    if answer is None:
        raise StackError(f"the supervisor of stack {name!r} is just ending")
    return answer
