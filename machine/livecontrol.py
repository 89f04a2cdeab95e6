"""Control messages to a process that runs: what each asks for is taken over at a moment the process chooses.

The supervisor sends one map and then SETTINGS_SIGNAL (``machine.launch``). Every process answers
``{"event": "set"}``, with "refused" if it would not.

A process may be stopped, or wait for one that is, for as long as it likes; the supervisor does not wait that long. So
a message carries a number (REQUEST), which the answer repeats, and a last moment (UNTIL, CLOCK_MONOTONIC in ns). After
that moment it is refused, for whoever asked has been told that it failed. A process that is stopped between that look
and the change itself answers late that it has changed, and the supervisor records it then (``lab.requests``). So what
runs is what is recorded, whatever comes between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any, Final, TypeAlias

from machine.control import Channel, Message
from machine.errors import ControlError, WorldswitchError

__all__ = ["REQUEST", "UNTIL", "LiveControl", "LiveHandler"]

LiveHandler: TypeAlias = Callable[[Any], None]

REQUEST: Final = "request"
UNTIL: Final = "until"

_NOW: Final = 0.0
_MOST: Final = 64  # messages at once; the supervisor repeats its signal for those that still wait


class LiveControl:
    """``handlers``: key of a message -> what takes its value over; it may still grow."""

    def __init__(self, control: Channel, handlers: Mapping[str, LiveHandler]) -> None:
        self._control = control
        self._handlers = handlers
        self._busy = False

    def apply_waiting(self) -> None:
        """Takes the messages that are there, and answers each, in their order."""
        if self._busy:  # called by a signal handler within a signal handler: the outer one takes this message, too
            return
        self._busy = True
        try:
            self._take_all()
        finally:
            self._busy = False

    def _take_all(self) -> None:
        for _ in range(_MOST):
            try:
                message = self._control.receive(_NOW)
            except ControlError:
                return  # no more; or the signal came from elsewhere
            if message is None:
                return
            number = {REQUEST: message[REQUEST]} if REQUEST in message else {}
            self._control.send({"event": "set"} | number | self._apply(message))

    def _apply(self, message: Message) -> Message:
        """What the answer says beside the event."""
        if monotonic_ns() > message.get(UNTIL, monotonic_ns()):
            return {"refused": "it came too late"}
        try:
            for key, value in message.items():
                if key in self._handlers:
                    self._handlers[key](value)
        except (WorldswitchError, TypeError, KeyError) as error:
            return {"refused": str(error)}
        return {}
