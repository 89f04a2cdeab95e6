"""INTA# of the Lance to the client's interrupt controller."""

from __future__ import annotations

from typing import Final, Protocol

from machine.counters import VMM, indices

__all__ = ["ClientLine", "IntxTrigger"]

_RAISED: Final = indices(VMM)["irqs_raised"]


class IntxTrigger(Protocol):
    """What is needed of ``vmm.vfiouser.interrupts.IntxLine``."""

    raised: int
    patient: bool
    owed_ns: int

    def repay(self) -> None:
        """Triggers for a line that has stayed up since it was unmasked."""

    def set_level(self, level: int) -> None:
        """The device drives the line."""


class ClientLine:
    """The inputs (``vmm.lines.InterruptInputs``) of a guest that has its interrupt controller elsewhere: just one."""

    def __init__(self, counters: memoryview) -> None:
        self._counters = counters
        self._trigger: IntxTrigger | None = None

    def connect(self, trigger: IntxTrigger) -> None:
        """Where the line leads. Its patience is ``owed_ns`` and ``repay`` here."""
        trigger.patient = True
        self._trigger = trigger

    def set_line(self, _irq: int, level: int) -> None:
        """Passes the level on."""
        if self._trigger is not None:
            self._trigger.set_level(level)
            self.count()

    @property
    def owed_ns(self) -> int:
        """Since when the line has been up and unmasked without a trigger; 0 if it has not."""
        return 0 if self._trigger is None else self._trigger.owed_ns

    def repay(self) -> None:
        """Triggers, if the line is still up."""
        if self._trigger is not None:
            self._trigger.repay()
            self.count()

    def count(self) -> None:
        """Brings the counter of interrupts up to date: the client's unmasking raises some, too."""
        if self._trigger is not None:
            self._counters[_RAISED] = self._trigger.raised
