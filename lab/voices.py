"""Passes on to the user what the processes of a running stack say, within their allowance (``lab.hearing``).

Each role has two voices: its control channel, on which it may send {"event": "notice", "message": text}, and its
standard output and error, which hold the traceback of a defect. A role that says more than its allowance is not read
until that has grown again: what it says fills its socket or pipe, and then it waits, and nobody else does.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

from lab.hearing import Allowance, Printed, text_of
from machine.control import Channel, Message
from machine.errors import ControlError

__all__ = ["MUTED_SECONDS", "Voices"]

MUTED_SECONDS: Final = 1.0
"""How often to look whether a role that has said too much may be read again."""

Say = Callable[[str], None]
Hears = Callable[[str, Message], None]


class Voices:
    """``controls``, ``printed``: by role. ``say`` takes a line for the user.

    ``hears`` gets role and message of what is not a notice; it must bear anything.
    """

    def __init__(
        self,
        controls: dict[str, Channel],
        printed: dict[str, Printed],
        say: Say,
        hears: Hears = lambda _role, _message: None,
    ) -> None:
        self._controls = {channel.fileno(): (role, channel) for role, channel in controls.items()}
        self._printed = {pipe.fileno(): (role, pipe) for role, pipe in printed.items()}
        self._allowances = {role: Allowance() for role in controls}
        self._muted: set[str] = set()
        self._say = say
        self._hears = hears

    @property
    def fds(self) -> list[int]:
        """What to poll: the voices of the roles that may be read now."""
        self._muted = {role for role in self._muted if self._allowances[role].spent}
        voices = (*self._controls.items(), *self._printed.items())
        return [fd for fd, (role, _) in voices if role not in self._muted]

    @property
    def muted(self) -> bool:
        """Whether a role is not read at present: ``fds`` will grow again by itself."""
        return bool(self._muted)

    def read(self, fd: int) -> None:
        """Takes what one of ``fds`` has to say: one message, or one chunk of what was printed."""
        if fd in self._controls:
            self._read_message(fd)
        elif fd in self._printed:
            role, pipe = self._printed[fd]
            lines = pipe.lines()
            if pipe.ended:
                del self._printed[fd]
            for line in lines:
                self._pass_on(role, line)

    def _read_message(self, fd: int) -> None:
        role, channel = self._controls[fd]
        try:
            message = channel.receive(0.0)
        except ControlError:  # nonsense, or the end of the process
            message = None
        if message is None:
            del self._controls[fd]
        elif message.get("event") == "notice":
            self._pass_on(role, text_of(message, "message"))
        elif self._count(role):
            self._hears(role, message)

    def _pass_on(self, role: str, line: str) -> None:
        if self._count(role) and line.strip():
            self._say(f"{role}: {line}")

    def _count(self, role: str) -> bool:
        """Counts one thing that ``role`` has said; whether that was within its allowance."""
        if self._allowances[role].take():
            return True
        if role not in self._muted:
            self._muted.add(role)
            self._say(f"{role} says too much: not all of it is shown")
        return False

    def finish(self) -> None:
        """The stack has ended, or is about to: what is still in the pipes, once each."""
        for fd in list(self._printed):
            if _readable(fd):
                self.read(fd)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
