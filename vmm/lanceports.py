"""Where each access to the Lance is carried out: here in the vmm, or in vmapp after a world switch.

Version 2.0 of the paper's system (sections 2.3 and 3.2): the address port RAP is handled completely in the
vmm, every other port switches. The choice is made when an access is bound (``vmm.dispatch``), from the
mode's optimisations.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from machine.config import Mode
from machine.lance.regfile import RegisterFile
from machine.ring import KIND_IN, KIND_OUT, pack_key
from vmm.dispatch import Access
from vmm.worldswitch import WorldSwitch

__all__ = ["LancePorts"]

_RAP_WIO: Final = (0x12, 2)  # offset and width of RAP in 16-bit mode
_RAP_DWIO: Final = (0x14, 4)  # and in 32-bit mode


class LancePorts:
    """The Lance's 32 ports. A key names the port as an offset for vmapp, wherever the guest has mapped BAR 0."""

    def __init__(self, registers: RegisterFile, switch: WorldSwitch, mode: Mode) -> None:
        self._registers = registers
        self._switch = switch
        self.mode = mode

    def bind(self, key: int, kind: int, offset: int, width: int) -> Access:
        if (offset, width) in (_RAP_WIO, _RAP_DWIO):
            return self._bind_rap(kind, offset, width)
        return self._bind_switch(kind, offset, width)

    def _bind_rap(self, kind: int, offset: int, width: int) -> Access:
        registers = self._registers
        if kind == KIND_IN:
            return lambda _value: registers.read(offset, width)
        return lambda value: registers.write(offset, width, value)

    def _bind_switch(self, kind: int, offset: int, width: int) -> Access:
        return partial(self._switch.io, pack_key(kind, width, offset))

    def read(self, offset: int, width: int) -> int:
        return self.bind(0, KIND_IN, offset, width)(0)

    def write(self, offset: int, width: int, value: int) -> int:
        return self.bind(0, KIND_OUT, offset, width)(value)
