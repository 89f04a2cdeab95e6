"""What a burst has caused: collected while frames move, raised once when it is over."""

from __future__ import annotations

from typing import Final

from machine.counters import VMAPP, indices
from machine.lance.bits import CSR0_MERR
from machine.lance.regfile import RegisterFile
from machine.lance.state import CSR

__all__ = ["Events"]

_MEMORY_ERRORS: Final = indices(VMAPP)["memory_errors"]


class Events:
    """Interrupt causes that are still to be raised: ``csr0``, ``csr4``, ``csr5``, bits as in these registers."""

    __slots__ = ("_counters", "_regs", "csr0", "csr4", "csr5")

    def __init__(self, regs: RegisterFile, counters: memoryview) -> None:
        self._regs = regs
        self._counters = counters
        self.csr0 = 0
        self.csr4 = 0
        self.csr5 = 0

    def memory_error(self) -> None:
        """DMA got no answer: MERR."""
        self.csr0 |= CSR0_MERR
        self._counters[_MEMORY_ERRORS] += 1

    def settle(self) -> None:
        """Raises what has come up. Causes that are already set would change nothing and cost a recalculation."""
        words = self._regs.words
        if self.csr4 & ~words[CSR + 4]:
            self._regs.raise_csr4(self.csr4)
        if self.csr5 & ~words[CSR + 5]:
            self._regs.raise_csr5(self.csr5)
        if self.csr0 & ~words[CSR]:
            self._regs.raise_csr0(self.csr0)
        self.csr0 = self.csr4 = self.csr5 = 0
