"""Where each access to the Lance is carried out: here in the vmm, or in vmapp after a world switch.

Version 2.0 of the paper's system (sections 2.3 and 3.2): the address port RAP is handled in the vmm, every
other port switches. With ``ports`` (section 3.3.1) the vmm carries out every access on the state that it shares
with vmapp, and switches only for what the access leaves to do in the physical world, which is decided access by
access: a CSR0 write with TDMD may send, one that acknowledges does not. RAP becomes plain memory, with no trap.
With ``combining`` (section 3.3.2) a transmission may wait for a switch that happens anyway.

Both worlds use one definition of the registers (``machine.lance.regfile``) on one copy of their state, and only
the world that runs touches it, so they cannot disagree.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from machine.config import Mode
from machine.counters import VMM, indices
from machine.lance.bits import BCR18_DWIO, CSR0_INEA, CSR0_TDMD
from machine.lance.regfile import EFFECT_TRANSMIT, RegisterFile
from machine.lance.state import BCR, IRQ_LEVEL, RAP
from machine.launch import Station
from machine.layout import RAP_PORT, RAP_STORE
from machine.ring import KIND_IN, KIND_OUT, pack_key
from vmm.combining import SendCombining
from vmm.dispatch import Access
from vmm.worldswitch import WorldSwitch

__all__ = ["LancePorts"]

_RDP: Final = 0x10
_RAP_WIO: Final = (0x12, 2)  # offset and width of RAP in 16-bit mode
_RAP_DWIO: Final = (0x14, 4)  # and in 32-bit mode
_RAP_MASK: Final = 0x7F
_PLAIN_SEND: Final = (CSR0_TDMD, CSR0_TDMD | CSR0_INEA)  # CSR0 writes that do nothing but send
_COMBINED: Final = indices(VMM)["sends_combined"]


class LancePorts:
    """The Lance's 32 ports. A key names the port as an offset for vmapp, wherever the guest has mapped BAR 0."""

    leaves_vmm = True

    def __init__(
        self, station: Station, registers: RegisterFile, switch: WorldSwitch, combining: SendCombining
    ) -> None:
        self._gate = station.gate
        self._lance = station.lance
        self._counters = station.counters
        self._registers = registers
        self._switch = switch
        self._combining = combining
        self._mode = station.settings.optimisations
        self._base: int | None = None
        self._late_store = False  # RAP is no longer plain memory, and no access has come since

    def set_mode(self, mode: Mode) -> None:
        """Takes over which optimisations are on; the dispatcher must be rebound afterwards."""
        self._mode = mode
        self.move(self._base)

    def move(self, base: int | None) -> None:
        """BAR 0 is at ``base`` now (None: nowhere). Says anew which port, if any, is plain memory.

        A guest that runs may have seen the old answer and act on it after this. So its RAP store is not written where
        it was plain memory before, and counts once more where it no longer is (``bind``).
        """
        self._base = base
        gate, lance = self._gate, self._lance
        before, now = gate[RAP_PORT], self._plain_rap()
        if before:
            lance[RAP] = gate[RAP_STORE] & _RAP_MASK
        elif now and not self._late_store:
            gate[RAP_STORE] = lance[RAP]
        gate[RAP_PORT] = now
        self._late_store = not now and (bool(before) or self._late_store)

    def _plain_rap(self) -> int:
        """``RAP_PORT`` as it should be."""
        if not self._mode.ports or self._base is None:
            return 0
        offset, width = _RAP_DWIO if self._lance[BCR + 18] & BCR18_DWIO else _RAP_WIO
        return width << 16 | self._base + offset

    # -- binding: chosen once for each kind, port and width ------------------------------------------------

    def bind(self, _key: int, kind: int, offset: int, width: int) -> Access:
        """What an access does in the present mode. The first one after a change of mode or place comes here first."""
        if self._late_store:  # the guest may have stored RAP after the change, and before this trap
            self._late_store = False
            self._lance[RAP] = self._gate[RAP_STORE] & _RAP_MASK
        if self._mode.ports:
            return self._bind_in_vmm(kind, offset, width)
        if (offset, width) in (_RAP_WIO, _RAP_DWIO):
            return self._bind_rap(kind, offset, width)
        forward = partial(self._switch.io, pack_key(kind, width, offset))
        if self._mode.combining and kind == KIND_OUT and offset == _RDP:
            return partial(self._send_or_forward, forward, width)
        return forward

    def _bind_rap(self, kind: int, offset: int, width: int) -> Access:
        registers = self._registers
        if kind == KIND_IN:
            return lambda _value: registers.read(offset, width)
        return lambda value: registers.write(offset, width, value)

    def _bind_in_vmm(self, kind: int, offset: int, width: int) -> Access:
        if kind == KIND_OUT:
            write = partial(self._write, offset, width)
            if (offset, width) in (_RAP_WIO, _RAP_DWIO):
                return partial(self._and_sync, write)
            return partial(self._write_and_move, write) if (offset, width) == (_RDP, 4) else write
        read = partial(self._read, offset, width)
        is_reset = offset >= _RAP_DWIO[0]
        return partial(self._and_sync, read) if is_reset else read

    # -- accesses carried out in the vmm ----------------------------------------------------------------------

    def _read(self, offset: int, width: int, _value: int) -> int:
        lance, switch = self._lance, self._switch
        if self._gate[RAP_PORT]:
            lance[RAP] = self._gate[RAP_STORE] & _RAP_MASK
        value = self._registers.read(offset, width)
        if lance[IRQ_LEVEL] != switch.line:
            switch.sample_line()
        return value

    def _and_sync(self, access: Access, value: int) -> int:
        """An access that may set RAP: RESET, or a store that became a trap because RAP was no plain memory yet.

        The guest waits for it, so its RAP store may be written.
        """
        result = access(value)
        if self._gate[RAP_PORT]:
            self._gate[RAP_STORE] = self._lance[RAP]
        return result

    def _write(self, offset: int, width: int, value: int) -> int:
        lance, switch = self._lance, self._switch
        if self._gate[RAP_PORT]:
            lance[RAP] = self._gate[RAP_STORE] & _RAP_MASK
        effect = self._registers.write(offset, width, value)
        if effect:
            self._carry_out(effect)
        if lance[IRQ_LEVEL] != switch.line:
            switch.sample_line()
        return 0

    def _write_and_move(self, write: Access, value: int) -> int:
        """A write that may change to 32-bit ports, where RAP is elsewhere."""
        result = write(value)
        self.move(self._base)
        return result

    def _carry_out(self, effect: int) -> None:
        if effect == EFFECT_TRANSMIT and self._combining.may_wait():
            self._counters[_COMBINED] += 1  # TDMD stays set: the next switch sends
            return
        self._switch.effect(effect)

    def _send_or_forward(self, forward: Access, width: int, value: int) -> int:
        """Combining without ``ports``: a CSR0 write that only sends may be kept here, all else switches."""
        if self._combining.active and value & 0xFFFF in _PLAIN_SEND and not self._lance[RAP]:
            return self._write(_RDP, width, value)
        return forward(value)

    # -- the port map's plain interface ---------------------------------------------------------------------

    def read(self, offset: int, width: int) -> int:
        """IN, for transports that bind nothing."""
        return self.bind(0, KIND_IN, offset, width)(0)

    def write(self, offset: int, width: int, value: int) -> int:
        """OUT, for transports that bind nothing; always finished: answers 0."""
        return self.bind(0, KIND_OUT, offset, width)(value)
