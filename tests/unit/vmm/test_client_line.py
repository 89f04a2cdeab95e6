"""A guest that is busy with its card is interrupted later than one that waits for it, but is interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from machine.counters import VMM, indices
from machine.lance.state import CSR, STATE_WORDS
from machine.layout import COUNTER_PAGE_BYTES
from vmm.combining import SendCombining
from vmm.foreign.line import SILENCE_NS, ClientLine
from vmm.vfiouser.interrupts import IntxLine

RING = 16
IRQ = 11


class Pins:
    """A line with an eventfd at its end, and everything that it looks at."""

    def __init__(self) -> None:
        self.counters = memoryview(bytearray(COUNTER_PAGE_BYTES)).cast("Q")
        self.lance = memoryview(bytearray(4 * STATE_WORDS)).cast("I")
        self.lance[CSR + 78] = -RING & 0xFFFF
        self.combining = SendCombining(True, threshold=0, decay=0.5, cap=3)
        self.combining.tick(1)
        self.trigger = IntxLine()
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.trigger.connect(os.dup(self.fd))
        self.line = ClientLine(self.counters, self.lance, self.combining)
        self.line.connect(self.trigger)

    def raise_line(self, *, silent_ns: int) -> None:
        """INTA# goes up, ``silent_ns`` after the guest's last access."""
        self.line.heard_ns = time.monotonic_ns() - silent_ns
        self.line.set_line(IRQ, 1)

    @property
    def triggered(self) -> bool:
        """Whether the client has been told; takes it."""
        try:
            return os.eventfd_read(self.fd) > 0
        except BlockingIOError:
            return False


@pytest.fixture(name="pins")
def _pins() -> Iterator[Pins]:
    pins = Pins()
    yield pins
    pins.trigger.reset()
    os.close(pins.fd)


def test_a_waiting_guest_is_interrupted_at_once(pins: Pins) -> None:
    """After a silence there is nothing to wait for."""
    pins.raise_line(silent_ns=2 * SILENCE_NS)
    assert pins.triggered
    assert not pins.line.owed_ns
    assert pins.counters[indices(VMM)["irqs_raised"]] == 1


def test_a_busy_guest_is_interrupted_after_a_silence(pins: Pins) -> None:
    """The line's rise is not told, whoever looks, until its owner says that the guest is silent."""
    pins.raise_line(silent_ns=0)
    pins.line.look()
    assert not pins.triggered
    pins.line.repay()
    assert pins.triggered
    assert pins.counters[indices(VMM)["irqs_raised"]] == 1


def test_a_guest_in_an_access_is_busy(pins: Pins) -> None:
    """However long the access takes: the guest may be waiting for the world switch that raises the line."""
    pins.line.accessed = True
    pins.raise_line(silent_ns=100 * SILENCE_NS)
    assert not pins.triggered
    assert pins.line.owed_ns


def test_an_interrupt_waits_for_a_millisecond_at_most(pins: Pins) -> None:
    """A guest that never is silent gets its interrupt all the same."""
    pins.raise_line(silent_ns=0)
    time.sleep(0.002)
    pins.line.look()
    assert pins.triggered


def test_a_guest_whose_ring_fills_up_is_interrupted(pins: Pins) -> None:
    """TMDs come back to a driver by interrupt: before it has none left, it gets one, and then again."""
    for _ in range(2):
        pins.raise_line(silent_ns=0)
        for _ in range(RING - 3):
            pins.line.look()
            assert not pins.triggered
            pins.combining.may_wait()
        pins.line.look()
        assert pins.triggered
        pins.line.set_line(IRQ, 0)
        pins.trigger.unmask()


def test_a_ring_of_one_does_not_wait(pins: Pins) -> None:
    """Rings too short for the rule, 1 or 2 descriptors, and a length that no ring has: interrupted at once."""
    for length in (1, 2, 0):
        pins.lance[CSR + 78] = -length & 0xFFFF
        pins.raise_line(silent_ns=0)
        pins.line.look()
        assert pins.triggered
        pins.line.set_line(IRQ, 0)
        pins.trigger.unmask()


def test_without_combining_nothing_waits(pins: Pins) -> None:
    """Modes 2.0 and ports, and any mode while there are few world switches: one interrupt for each event."""
    pins.combining.active = False
    pins.raise_line(silent_ns=0)
    assert pins.triggered


def test_a_line_that_falls_owes_nothing(pins: Pins) -> None:
    """The guest has found by itself what the interrupt was about, and acknowledged it."""
    pins.raise_line(silent_ns=0)
    pins.line.set_line(IRQ, 0)
    time.sleep(0.002)
    pins.line.look()
    pins.line.repay()
    assert not pins.triggered


def test_a_masked_line_is_owed_when_it_is_unmasked(pins: Pins) -> None:
    """A rise while the client masks is neither told nor forgotten."""
    pins.trigger.mask()
    pins.raise_line(silent_ns=0)
    assert not pins.line.owed_ns
    pins.trigger.unmask()
    pins.line.repay()
    assert pins.triggered
