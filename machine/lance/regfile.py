"""The Lance's registers as the guest's port accesses see them.

Everything here is arithmetic on the state words: no DMA, no host I/O. A write that asks for such work answers
with *effects*, which only the world that has the engine can carry out. Sources: Am79C970A data sheet, "I/O
resources", "Control and Status Registers", "Bus Configuration Registers".
"""

from __future__ import annotations

from typing import Final

from machine.lance import bits, state
from machine.lance.core import LanceCore
from machine.lance.plans import BCR_PLANS, CSR_PLANS, CSR_WORDS
from machine.lance.writes import BCR_WRITERS, CSR_WRITERS, EFFECT_INIT, EFFECT_TRANSMIT

__all__ = ["EFFECT_INIT", "EFFECT_TRANSMIT", "RegisterFile"]

_RAP: Final = state.RAP
_RAP_MASK: Final = state.CSR_COUNT - 1
_BCR2: Final = state.BCR + 2
_BCR18: Final = state.BCR + 18
_DWIO: Final = bits.BCR18_DWIO

# Port offsets within BAR0 in WIO. In DWIO all but RDP move apart.
_RDP: Final = 0x10
_APROM_END: Final = 0x10
_RAP_PORT: Final = 0x12
_RESET: Final = 0x14
_BDP: Final = 0x16
_WIO_PORTS: Final = frozenset((_RDP, _RAP_PORT, _RESET, _BDP))
_DWIO_PORTS: Final = {0x10: _RDP, 0x14: _RAP_PORT, 0x18: _RESET, 0x1C: _BDP}
_CHIP_ID: Final = 88
_CHIP_ID_UPPER: Final = 89
_ALL_ONES: Final = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF}


class RegisterFile(LanceCore):
    """CSRs, BCRs, address PROM and PCI configuration space over the shared state words.

    Offsets, widths, indices and values may be any integers: no access raises, and none loops on them.
    """

    __slots__ = ()

    def read(self, offset: int, width: int) -> int:
        """IN of ``width`` bytes (1, 2, 4) at BAR0 + ``offset``; all ones where nothing of that width is."""
        words = self.words
        if width == 2 and not words[_BCR18] & _DWIO:
            if offset == _RDP:
                return words[CSR_WORDS[words[_RAP] & _RAP_MASK]] & 0xFFFF
            if offset == _RAP_PORT:
                return words[_RAP] & _RAP_MASK
        return self._read_rare(offset, width)

    def write(self, offset: int, width: int, value: int) -> int:
        """OUT of ``width`` bytes at BAR0 + ``offset``; answers the effects that are left to do, or 0."""
        words = self.words
        if width == 2 and not words[_BCR18] & _DWIO:
            if offset == _RDP:
                index = words[_RAP] & _RAP_MASK
                return CSR_WRITERS[index](self, CSR_PLANS[index], value & 0xFFFF)
            if offset == _RAP_PORT:
                words[_RAP] = value & _RAP_MASK
                return 0
        return self._write_rare(offset, width, value)

    @property
    def rap(self) -> int:
        """The register that RDP and BDP mean, 0..127."""
        return self.words[_RAP] & _RAP_MASK

    @rap.setter
    def rap(self, value: int) -> None:
        self.words[_RAP] = value & _RAP_MASK

    def read_csr(self, i: int) -> int:
        """CSR ``i`` (modulo 128); reserved ones are 0."""
        return self.words[CSR_WORDS[i & _RAP_MASK]] & 0xFFFF

    def write_csr(self, i: int, v: int) -> int:
        """Writes ``v`` to CSR ``i`` (modulo 128) as RDP would; answers effects."""
        i &= _RAP_MASK
        return CSR_WRITERS[i](self, CSR_PLANS[i], v & 0xFFFF)

    def read_bcr(self, i: int) -> int:
        """BCR ``i``; 0 where the chip has none."""
        return self.words[BCR_PLANS[i].word] & 0xFFFF if 0 <= i < state.BCR_COUNT else 0

    def write_bcr(self, i: int, v: int) -> int:
        """Writes ``v`` to BCR ``i`` as BDP would; answers effects."""
        if 0 <= i < state.BCR_COUNT:
            return BCR_WRITERS[i](self, BCR_PLANS[i], v & 0xFFFF)
        return 0

    def config_read(self, offset: int, width: int) -> int:
        """``width`` bytes of PCI configuration space; 0xFF for each byte outside it."""
        return self.pci.read(offset, width)

    def config_write(self, offset: int, width: int, value: int) -> None:
        """Writes what is writable of PCI configuration space."""
        self.pci.write(offset, width, value)
        self.changed()

    @property
    def io_base(self) -> int | None:
        """First port of BAR0 while the command register enables I/O decoding, else None."""
        return self.pci.io_base

    @property
    def bus_master(self) -> bool:
        """Whether the chip may do DMA."""
        return self.pci.bus_master

    def _port(self, offset: int, width: int) -> int:
        """The WIO offset of the port that is meant, or -1: a port answers only to the width of the I/O mode."""
        if self.words[_BCR18] & _DWIO:
            return _DWIO_PORTS.get(offset, -1) if width == 4 else -1
        return offset if width == 2 and offset in _WIO_PORTS else -1

    def _read_rare(self, offset: int, width: int) -> int:
        if 0 <= offset < _APROM_END:
            return self._read_aprom(offset, width)
        port = self._port(offset, width)
        if port == _RDP:
            return self._read_csr_wide() if width == 4 else self.read_csr(self.words[_RAP])
        if port == _RAP_PORT:
            return self.rap
        if port == _BDP:
            return self.read_bcr(self.rap)
        if port == _RESET:
            self.soft_reset()
            return 0
        return _ALL_ONES.get(width, 0xFFFF_FFFF)

    def _read_csr_wide(self) -> int:
        """RDP in DWIO. CSR88 is the one register with an upper half: the whole chip ID, which CSR89 has once more.

        BSD's drivers tell by bits 27 to 12 of it which chip they have (data sheet, "CSR88: Chip ID Register Lower").
        """
        value = self.read_csr(self.words[_RAP])
        return value | self.read_csr(_CHIP_ID_UPPER) << 16 if self.rap == _CHIP_ID else value

    def _write_rare(self, offset: int, width: int, value: int) -> int:
        if 0 <= offset < _APROM_END:
            self._write_aprom(offset, width, value)
            return 0
        port = self._port(offset, width)
        if port == _RDP:
            return self.write_csr(self.words[_RAP], value)
        if port == _RAP_PORT:
            self.rap = value
        elif port == _BDP:
            return self.write_bcr(self.rap, value)
        elif offset == _RDP and width == 4:  # in WIO: this is how software asks for DWIO; the value goes nowhere
            self.words[_BCR18] |= _DWIO
            self.changed()
        return 0

    def _read_aprom(self, offset: int, width: int) -> int:
        """Bytes, and aligned words, at any time; aligned double words in DWIO.

        The data sheet wants double words in DWIO, and FreeBSD and Solaris read these; but Linux, OpenBSD and NetBSD
        take the station address byte by byte in either mode, and a chip has bytes on their lanes for them, too.
        """
        ones = _ALL_ONES.get(width, 0xFFFF_FFFF)
        wide = width == 4 and bool(self.words[_BCR18] & _DWIO)
        if not (width in (1, 2) or wide) or offset % width:
            return ones
        return self.words[state.APROM + (offset >> 2)] >> 8 * (offset & 3) & ones

    def _aprom_takes(self, offset: int, width: int) -> bool:
        """Bytes and aligned words in WIO, aligned double words in DWIO."""
        if self.words[_BCR18] & _DWIO:
            return width == 4 and not offset & 3
        return width == 1 or (width == 2 and not offset & 1)

    def _write_aprom(self, offset: int, width: int, value: int) -> None:
        if not self.words[_BCR2] & bits.BCR2_APROMWE or not self._aprom_takes(offset, width):
            return
        index, shift = state.APROM + (offset >> 2), 8 * (offset & 3)
        lane = _ALL_ONES[width] << shift
        self.words[index] = self.words[index] & ~lane | value << shift & lane
