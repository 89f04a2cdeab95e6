"""Control messages to a process that runs: what each asks for is taken over at a moment the process chooses.

The supervisor sends one map and then SETTINGS_SIGNAL (``machine.launch``). Every process answers
``{"event": "set"}``, with "refused" if it would not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from machine.control import Channel
from machine.errors import ControlError, WorldswitchError

__all__ = ["LiveControl", "LiveHandler"]

LiveHandler: TypeAlias = Callable[[Any], None]

_NOW: Final = 0.0


class LiveControl:
    """``handlers``: key of a message -> what takes its value over; it may still grow."""

    def __init__(self, control: Channel, handlers: Mapping[str, LiveHandler]) -> None:
        self._control = control
        self._handlers = handlers

    def apply_waiting(self) -> None:
        """Takes one message, if one is there, and answers it."""
        try:
            message = self._control.receive(_NOW)
        except ControlError:
            return  # the signal came from elsewhere
        if message is None:
            return
        try:
            for key, value in message.items():
                if key in self._handlers:
                    self._handlers[key](value)
        except (WorldswitchError, TypeError, KeyError) as error:
            self._control.send({"event": "set", "refused": str(error)})
        else:
            self._control.send({"event": "set"})
