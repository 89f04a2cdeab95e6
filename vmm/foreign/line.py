"""INTA# of the Lance to the client's interrupt controller, moderated.

An interrupt costs a stock driver fourteen port accesses, each of them a message there and back. With send combining,
which lets packets wait (paper section 3.3.2) and by that lowers the number of interrupts, too, one that arises while
the guest is busy with the card waits as well: until the guest has made no access for a moment, has sent nearly as many
frames as its ring holds, or for a millisecond. A guest that waits for its card is interrupted at once.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Final, Protocol

from machine.counters import VMM, indices
from machine.lance.state import CSR
from vmm.combining import SendCombining

__all__ = ["SILENCE_NS", "ClientLine", "IntxTrigger"]

_RAISED: Final = indices(VMM)["irqs_raised"]
_XMTRL: Final = CSR + 78  # the transmit ring's length, in two's complement
_CSR_MASK: Final = 0xFFFF
_SPARE: Final = 3  # TMDs left when the guest is interrupted: what it sends until it takes notice

SILENCE_NS: Final = 300_000
"""Between two accesses of a guest that is busy with the card there is less, in nanoseconds."""

_LONGEST_NS: Final = 1_000_000  # from a line that is up to its trigger, whatever the client does


class IntxTrigger(Protocol):
    """What is needed of ``vmm.vfiouser.interrupts.IntxLine``."""

    raised: int
    patient: bool
    owed_ns: int

    def repay(self) -> None:
        """Triggers for a line that is up and waits."""

    def set_level(self, level: int) -> None:
        """The device drives the line."""

    def hold(self) -> None:
        """The device drives it up, and it may wait."""


class ClientLine:
    """The inputs (``vmm.lines.InterruptInputs``) of a guest that has its interrupt controller elsewhere: just one.

    ``lance``: the chip's state words. ``accessed``: an access of the guest is being carried out; ``heard_ns``: when
    the last one was over (CLOCK_MONOTONIC).
    """

    def __init__(self, counters: memoryview, lance: memoryview, combining: SendCombining) -> None:
        self._counters = counters
        self._lance = lance
        self._combining = combining
        self._sent = 0  # frames that the guest has asked to send, as of the last trigger
        self._trigger: IntxTrigger | None = None
        self.accessed = False
        self.heard_ns = 0

    def connect(self, trigger: IntxTrigger) -> None:
        """Where the line leads. Its patience is ``owed_ns`` and ``repay`` here."""
        trigger.patient = True
        self._trigger = trigger

    def set_line(self, _irq: int, level: int) -> None:
        """Passes the level on; a rise may have to wait."""
        trigger = self._trigger
        if trigger is None:
            return
        if level and self._combining.active and (self.accessed or monotonic_ns() - self.heard_ns < SILENCE_NS):
            trigger.hold()
        else:
            trigger.set_level(level)
        self.count()

    @property
    def owed_ns(self) -> int:
        """Since when the line has been up and unmasked without a trigger; 0 if it has not."""
        return 0 if self._trigger is None else self._trigger.owed_ns

    def look(self) -> None:
        """Triggers for a line that waits if it may wait no longer: silence apart, which the caller knows of."""
        owed = self.owed_ns
        if owed and (monotonic_ns() - owed > _LONGEST_NS or self._ring_is_full):
            self.repay()

    @property
    def _ring_is_full(self) -> bool:
        """Whether the guest may soon have to stop sending, for it learns by interrupts that TMDs are free again."""
        length = -self._lance[_XMTRL] & _CSR_MASK
        return self._combining.asked - self._sent >= length - _SPARE

    def repay(self) -> None:
        """Triggers, if the line is still up."""
        if self._trigger is not None:
            self._trigger.repay()
            self.count()

    def count(self) -> None:
        """Brings the counter of interrupts up to date: the client's unmasking raises some, too."""
        if self._trigger is not None and self._counters[_RAISED] != self._trigger.raised:
            self._counters[_RAISED] = self._trigger.raised
            self._sent = self._combining.asked
