"""Port accesses of a guest that trusts nobody, not even itself; and a sane driver on top of them."""

from __future__ import annotations

import os
import select
import time
from typing import Any, Final

from machine import ring
from machine.lance.bits import CSR0_IDON, CSR0_INIT, CSR0_STRT, CSR0_TDMD, TMD1_ENP, TMD1_ERR, TMD1_OWN, TMD1_STP
from machine.launch import Station
from machine.layout import RAP_PORT, RAP_STORE, SLEEPS_VMM
from machine.ports import LANCE_DEFAULT_BASE, PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA

__all__ = ["WORD", "Chip", "Driver", "Traps"]

WORD: Final = (1 << 64) - 1
_SLOT_4: Final = 1 << 31 | 4 << 11  # CONFIG_ADDRESS of the Lance's configuration space

_PATIENCE_S: Final = 0.05  # after which a trap counts as unanswered: the two sides disagree on the slot
_PROBE_S: Final = 0.01
_ATTEMPTS: Final = 25
_HOST_BRIDGE: Final = 0x1237_8086
_BLOCK, _RX_RING, _TX_RING, _FRAME = 0x1000, 0x2000, 0x2100, 0x3000  # where the sane driver has them


class Traps:
    """Port accesses that expect no answer, and count those that come."""

    def __init__(self, station: Station) -> None:
        self.gate = station.gate
        self._ring = station.bells["vmm"].ring
        self._bell = station.fds["bell-guest"]
        self._rung = select.poll()
        self._rung.register(self._bell, select.POLLIN)
        self._slot = 0
        self.answered = self.unanswered = 0
        self.slowest_s = 0.0

    def read(self, port: int, width: int) -> int | None:
        """IN; None if nobody answered. RAP may be plain memory, as for any guest."""
        if self.gate[RAP_PORT] == width << 16 | port:
            return int(self.gate[RAP_STORE]) & 0x7F
        return self.trap(ring.pack_key(ring.KIND_IN, width, port), 0)

    def write(self, port: int, width: int, value: int) -> None:
        """OUT."""
        if self.gate[RAP_PORT] == width << 16 | port:
            self.gate[RAP_STORE] = value
            return
        self.trap(ring.pack_key(ring.KIND_OUT, width, port), value)

    def trap(self, key: int, value: int) -> int | None:
        """Posts one request; its result, or None if nobody answered."""
        base = self._slot * ring.SLOT_WORDS
        self._post(base, key, value)
        started = time.monotonic()
        if not self._complete(base, _PATIENCE_S):
            self.unanswered += 1
            self.find_slot()
            return None
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.answered += 1
        self._slot = (self._slot + 1) % ring.SLOTS
        self.gate[base] = ring.FREE
        return int(self.gate[base + ring.RESULT])

    def post_halt(self, cancelled: bool) -> None:
        """HLT without waiting for its end; the next trap ends it, if ``cancelled`` does not."""
        base = self._slot * ring.SLOT_WORDS
        self._post(base, ring.pack_key(ring.KIND_HLT, 0, 0), 0)
        if cancelled:
            self.gate[ring.RING_WORDS] = self.gate[base + ring.SEQUENCE]
        self._slot = (self._slot + 1) % ring.SLOTS

    def find_slot(self) -> None:
        """Learns which slot the vmm looks at, by offering it each."""
        gate = self.gate
        for slot in range(ring.SLOTS):
            gate[slot * ring.SLOT_WORDS] = ring.FREE
        for slot in range(ring.SLOTS):
            base = slot * ring.SLOT_WORDS
            self._post(base, ring.pack_key(ring.KIND_IN, 4, PCI_CONFIG_ADDRESS), 0)
            if self._complete(base, _PROBE_S):
                self._slot = (slot + 1) % ring.SLOTS
                gate[base] = ring.FREE
                return
            gate[base] = ring.FREE

    def _post(self, base: int, key: int, value: int) -> None:
        gate = self.gate
        gate[base + ring.VALUE] = value & WORD
        gate[base + ring.SEQUENCE] = gate[base + ring.SEQUENCE] + 1 & WORD
        gate[base + ring.KEY] = key
        gate[base] = ring.POSTED
        self._ring()

    def _complete(self, base: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.gate[base] != ring.COMPLETE:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._rung.poll(left * 1000):
                os.eventfd_read(self._bell)
        return True


class Chip:
    """The Lance's registers, in whichever I/O mode the chip is: nothing but RST# ever leaves the 32-bit one."""

    _PORTS: Final = {2: (0x10, 0x12, 0x14, 0x16), 4: (0x10, 0x14, 0x18, 0x1C)}  # width -> RDP, RAP, RESET, BDP

    def __init__(self, traps: Traps) -> None:
        self._traps = traps
        self._width = 2

    def enable(self) -> None:
        """BAR 0 where it belongs, decoding and bus mastering on; finds out the I/O mode."""
        self.configure(0x10, LANCE_DEFAULT_BASE)
        self.configure(0x04, 5)
        self._width = 4
        rap = self._traps.read(self._port(1), 4)  # all ones in the 16-bit mode
        self._width = 2 if rap is None or rap > 0x7F else 4

    def configure(self, offset: int, value: int) -> None:
        """A 32-bit write to the Lance's configuration space."""
        self._traps.write(PCI_CONFIG_ADDRESS, 4, _SLOT_4 | offset & 0xFC)
        self._traps.write(PCI_CONFIG_DATA, 4, value)

    def reset(self) -> None:
        self._traps.read(self._port(2), self._width)

    def read_csr(self, index: int) -> int:
        """The register; -1 if nobody answers."""
        self._traps.write(self._port(1), self._width, index)
        value = self._traps.read(self._port(0), self._width)
        return -1 if value is None else value

    def write_csr(self, index: int, value: int) -> None:
        self._traps.write(self._port(1), self._width, index)
        self._traps.write(self._port(0), self._width, value)

    def write_bcr(self, index: int, value: int) -> None:
        self._traps.write(self._port(1), self._width, index)
        self._traps.write(self._port(3), self._width, value)

    def _port(self, number: int) -> int:
        return LANCE_DEFAULT_BASE + self._PORTS[self._width][number]


class Driver:
    """A sane driver, for a chip and a vmm of which it knows nothing."""

    def __init__(self, station: Station, traps: Traps) -> None:
        self._ram = station.ram
        self._mac = station.mac
        self._traps = traps
        self._chip = Chip(traps)

    def boot(self) -> dict[str, Any]:
        """Agrees with the vmm on the slot, resets the chip, sends one frame; what came of it."""
        agreed = any(self._agree() for _ in range(_ATTEMPTS))
        self._chip.enable()
        self._chip.reset()
        csr0 = self._chip.read_csr(0)
        idon = self._initialise()
        return {"agreed": agreed, "csr0": csr0, "idon": idon, "sent": self._send()}

    def _agree(self) -> bool:
        gate = self._traps.gate
        for index in range(len(gate)):
            if index != SLEEPS_VMM:
                gate[index] = 0
        self._traps.find_slot()
        self._traps.write(PCI_CONFIG_ADDRESS, 4, 1 << 31)
        return all(self._traps.read(PCI_CONFIG_DATA, 4) == _HOST_BRIDGE for _ in range(2 * ring.SLOTS))

    def _initialise(self) -> bool:
        """An init block with rings of one descriptor each, none of them lent to the chip."""
        chip, ram = self._chip, self._ram
        chip.write_bcr(20, 2)
        ram[_BLOCK : _BLOCK + 0x3000] = bytes(0x3000)
        ram[_BLOCK + 4 : _BLOCK + 10] = self._mac
        ram[_BLOCK + 20 : _BLOCK + 24] = _RX_RING.to_bytes(4, "little")
        ram[_BLOCK + 24 : _BLOCK + 28] = _TX_RING.to_bytes(4, "little")
        for csr, value in ((1, _BLOCK), (2, 0), (0, CSR0_INIT)):
            chip.write_csr(csr, value)
        idon = bool(chip.read_csr(0) & CSR0_IDON)
        chip.write_csr(0, CSR0_STRT)
        return idon

    def _send(self) -> bool:
        """One broadcast of 60 bytes; whether the chip has handed its TMD back without an error."""
        words, tmd = self._ram.cast("I"), _TX_RING // 4
        self._ram[_FRAME : _FRAME + 14] = b"\xff" * 6 + self._mac + b"\x88\xb5"
        words[tmd] = _FRAME
        words[tmd + 1] = TMD1_OWN | TMD1_STP | TMD1_ENP | 0xF000 | -60 & 0xFFF
        self._chip.write_csr(0, CSR0_TDMD)
        deadline = time.monotonic() + 1.0
        while words[tmd + 1] & TMD1_OWN and time.monotonic() < deadline:
            self._chip.read_csr(0)
        return not words[tmd + 1] & (TMD1_OWN | TMD1_ERR)
