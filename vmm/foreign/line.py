"""INTA# of the Lance to the client's interrupt controller."""

from __future__ import annotations

from typing import Final, Protocol

from machine.counters import VMM, indices

__all__ = ["ClientLine", "IntxTrigger"]

_RAISED: Final = indices(VMM)["irqs_raised"]


class IntxTrigger(Protocol):
    """What is needed of ``vmm.vfiouser.interrupts.IntxLine``."""

    raised: int

    def set_level(self, level: int) -> None:
        """The device drives the line."""


class ClientLine:
    """The inputs (``vmm.lines.InterruptInputs``) of a guest that has its interrupt controller elsewhere: just one."""

    def __init__(self, counters: memoryview) -> None:
        self._counters = counters
        self._trigger: IntxTrigger | None = None

    def connect(self, trigger: IntxTrigger) -> None:
        """Where the line leads."""
        self._trigger = trigger

    def set_line(self, _irq: int, level: int) -> None:
        """Passes the level on."""
        if self._trigger is not None:
            self._trigger.set_level(level)
            self.count()

    def count(self) -> None:
        """Brings the counter of interrupts up to date: the client's unmasking raises some, too."""
        if self._trigger is not None:
            self._counters[_RAISED] = self._trigger.raised
