"""One descriptor ring in guest memory: where it lies, how long it is, and where the chip stands in it.

The position lives in the chip's own registers (ring counter and current descriptor address), so that it
survives STOP and is part of every snapshot. Within a burst it is a plain attribute; ``load`` and ``store`` are
the burst's brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from machine.lance.state import CSR
from machine.memory import GuestMemory

from .descriptors import LAYOUTS, DescriptorLayout
from .words import SplitWords, Words

__all__ = ["MAX_DESCRIPTORS", "RECEIVE_RING", "TRANSMIT_RING", "Geometry", "Ring", "RingRegisters"]

MAX_DESCRIPTORS: Final = 512  # looked at per call, however long the guest says its ring is


@dataclass(frozen=True, slots=True)
class RingRegisters:
    """The CSR numbers that describe one ring; addresses take two CSRs, low half first."""

    base: int
    current: int
    counter: int
    length: int


RECEIVE_RING: Final = RingRegisters(base=24, current=28, counter=72, length=76)
TRANSMIT_RING: Final = RingRegisters(base=30, current=34, counter=74, length=78)


class Geometry(NamedTuple):
    """What a loop over descriptors needs, to be unpacked at its head: one load instead of eleven.

    ``step`` is words per descriptor; ``address`` to ``kept`` are ``DescriptorLayout``'s.
    """

    view: memoryview
    reach: int
    length: int
    high: int
    step: int
    address: int
    status: int
    bcnt: int
    result: int
    address_mask: int
    kept: int


class Ring:
    """A ring as the registers describe it.

    ``view`` holds the first ``reach`` descriptors as 32-bit words; only a ring that leaves its window, for another one
    or for nowhere, has more than those, and each of these is located, and checked, alone.
    """

    __slots__ = (
        "_memory",
        "_registers",
        "_words",
        "base",
        "fast",
        "high",
        "layout",
        "length",
        "position",
        "reach",
        "view",
    )

    def __init__(self, words: memoryview, memory: GuestMemory, registers: RingRegisters) -> None:
        self._words = words
        self._memory = memory
        self._registers = registers
        self.layout: DescriptorLayout = LAYOUTS[0]
        self.base = self.high = self.position = self.reach = 0
        self.length = 1
        self.view = memoryview(b"").cast("I")
        self.fast = self._geometry()

    def configure(self, layout: DescriptorLayout, high: int) -> None:
        """Takes base and length from the registers; ``high`` is OR-ed to 24-bit addresses (CSR2, SSIZE32=0)."""
        words, registers = self._words, self._registers
        self.layout = layout
        self.high = high
        base = words[CSR + registers.base] | words[CSR + registers.base + 1] << 16
        self.base = base & layout.address_mask | high
        self.length = -words[CSR + registers.length] & 0xFFFF or 0x10000
        self.reach = self._descriptors_in_memory()
        window = self._memory.window(self.base, self.reach * layout.words * 4)
        self.view = memoryview(b"" if window is None else window).cast("I")
        self.fast = self._geometry()

    def load(self) -> int:
        """Takes the position from the ring counter (two's complement, counts up); answers it."""
        words, registers = self._words, self._registers
        position = (words[CSR + registers.counter] - words[CSR + registers.length]) & 0xFFFF
        self.position = position if position < self.length else 0
        return self.position

    def store(self, position: int) -> None:
        """Puts the position into the ring counter and the current descriptor address."""
        words, registers = self._words, self._registers
        address = self.base + position * self.layout.words * 4
        words[CSR + registers.counter] = (words[CSR + registers.length] + position) & 0xFFFF
        words[CSR + registers.current] = address & 0xFFFF
        words[CSR + registers.current + 1] = address >> 16 & 0xFFFF

    def after(self, position: int) -> int:
        """The position that follows ``position``."""
        position += 1
        return 0 if position >= self.length else position

    def locate(self, position: int) -> tuple[Words, int] | None:
        """The words that hold descriptor ``position`` and its first word's index; None if any is out of reach."""
        step = self.layout.words
        if position < self.reach:
            return self.view, position * step
        pieces = self._memory.targets(self.base + position * step * 4, step * 4)
        if pieces is None:
            return None
        return (pieces[0].cast("I") if len(pieces) == 1 else SplitWords(pieces)), 0

    def _descriptors_in_memory(self) -> int:
        """How many descriptors from the first on lie in one window: a window within a window is one, too."""
        size = self.layout.words * 4
        low, high = 0, self.length
        while low < high:
            middle = (low + high + 1) // 2
            if self._memory.window(self.base, middle * size) is None:
                high = middle - 1
            else:
                low = middle
        return low

    def _geometry(self) -> Geometry:
        it = self.layout
        return Geometry(
            view=self.view,
            reach=self.reach,
            length=self.length,
            high=self.high,
            step=it.words,
            address=it.address,
            status=it.status,
            bcnt=it.count,
            result=it.result,
            address_mask=it.address_mask,
            kept=it.result_kept,
        )
