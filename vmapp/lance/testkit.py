"""For tests and experiments: a wire made of deques, and a bare machine around the engine.

``Rig`` plays the driver. It writes init block and descriptors byte by byte, from the data sheet's pictures and
not from ``vmapp.lance.descriptors``, so that a wrong layout there cannot hide.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

from machine.counters import VMAPP, indices
from machine.lance.regfile import RegisterFile
from machine.lance.state import STATE_WORDS
from machine.memory import GuestMemory

from .engine import LanceEngine

__all__ = ["MAC", "RAM_SIZE", "RX", "TX", "Descriptor", "MemoryPort", "Rig"]

MAC: Final = bytes.fromhex("525400c61200")
RAM_SIZE: Final = 1 << 20
RX: Final = "rx"
TX: Final = "tx"

_GUARD: Final = 4096
_GUARD_BYTE: Final = 0xA5
_INIT_BLOCK: Final = 0x1000
_RINGS: Final = {RX: 0x2000, TX: 0x6000}
_BUFFERS: Final = {RX: 0x10000, TX: 0x60000}
_BUFFER_STRIDE: Final = 0x800
_OWN: Final = 0x80


class MemoryPort:
    """A wire: ``sent`` holds what the engine sent, ``waiting`` what it will receive."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.waiting: deque[bytes] = deque()
        self.refuses = False

    def send(self, parts: list[memoryview] | memoryview) -> bool:
        """Keeps the frame, or loses it while ``refuses`` is set."""
        if not self.refuses:
            self.sent.append(b"".join(parts) if isinstance(parts, list) else bytes(parts))
        return not self.refuses

    def recv_into(self, parts: list[memoryview]) -> int:
        """What readv() does: fills the pieces in order and cuts off the rest."""
        if not self.waiting:
            return 0
        frame = memoryview(self.waiting.popleft())
        start = 0
        for part in parts:
            end = min(len(frame), start + len(part))
            part[: end - start] = frame[start:end]
            start = end
        return start


@dataclass(slots=True)
class Descriptor:
    """One descriptor, decoded: ``flags`` is the byte with OWN as 0x80, ``result`` MCNT or the TMD2 error bits >> 26."""

    address: int
    flags: int
    match: int
    size: int
    result: int

    @property
    def owned(self) -> bool:
        """The chip's."""
        return bool(self.flags & _OWN)


class Rig:
    """Guest memory between guard bytes, register file, engine and wire, and a driver's view of the rings."""

    def __init__(self, style: int = 2, ram_size: int = RAM_SIZE) -> None:
        self.style = style
        self._backing = bytearray([_GUARD_BYTE]) * (ram_size + 2 * _GUARD)
        self._backing[_GUARD:-_GUARD] = bytes(ram_size)
        self.ram = memoryview(self._backing)[_GUARD:-_GUARD]
        self.memory = GuestMemory(self.ram)
        self.regs = RegisterFile(memoryview(bytearray(4 * STATE_WORDS)).cast("I"))
        self.regs.power_on(MAC)
        self.regs.config_write(0x04, 2, 0x0005)  # I/O decoding, bus master
        self.port = MemoryPort()
        self.counters = memoryview(bytearray(8 * len(indices(VMAPP)))).cast("Q")
        self.engine = LanceEngine(self.regs, self.memory, self.port, self.counters)
        self.write_bcr(20, style)

    @property
    def guards_intact(self) -> bool:
        """Nothing was written outside guest memory."""
        guard = bytes([_GUARD_BYTE]) * _GUARD
        return self._backing[:_GUARD] == guard and self._backing[-_GUARD:] == guard

    def counter(self, name: str) -> int:
        """One of the vmapp's counters."""
        return int(self.counters[indices(VMAPP)[name]])

    def csr(self, number: int) -> int:
        """Reads a CSR as the guest would."""
        return self.regs.read_csr(number)

    def write_csr(self, number: int, value: int) -> None:
        """Writes a CSR as the guest would, and does the work it asks for."""
        self.engine.run(self.regs.write_csr(number, value))

    def write_bcr(self, number: int, value: int) -> None:
        """Writes a BCR as the guest would."""
        self.engine.run(self.regs.write_bcr(number, value))

    def boot(
        self, mode: int = 0, rx_log2: int = 3, tx_log2: int = 3, ladrf: bytes = bytes(8), csr4: int = 0x0915
    ) -> None:
        """What a driver does to bring the chip up: init block, INIT, STRT | INEA; ``csr4`` as Linux has it."""
        self.write_csr(0, 0x0004)
        self.write_init_block(mode, rx_log2, tx_log2, ladrf)
        self.write_csr(4, csr4)
        self.write_csr(0, 0x0001)
        self.write_csr(0, 0x0142)

    def write_init_block(self, mode: int, rx_log2: int, tx_log2: int, ladrf: bytes) -> None:
        """Puts an init block of the rig's style into RAM and its address into CSR1 and CSR2."""
        if self.style == 0:
            block = struct.pack("<H6s8sHHHH", mode, MAC, ladrf, _RINGS[RX], rx_log2 << 13, _RINGS[TX], tx_log2 << 13)
        else:
            lengths = rx_log2 << 4 | tx_log2 << 12
            block = struct.pack("<HH6sH8sII", mode, lengths, MAC, 0, ladrf, _RINGS[RX], _RINGS[TX])
        self.ram[_INIT_BLOCK : _INIT_BLOCK + len(block)] = block
        self.write_csr(1, _INIT_BLOCK)
        self.write_csr(2, 0)

    def where(self, ring: str, index: int) -> int:
        """Guest address of a descriptor."""
        return _RINGS[ring] + index * (8 if self.style == 0 else 16)

    def buffer_address(self, ring: str, index: int) -> int:
        """Guest address of the buffer that the rig keeps for a descriptor; 2048 bytes."""
        return _BUFFERS[ring] + index % 64 * _BUFFER_STRIDE

    def put(self, ring: str, index: int, address: int, size: int, flags: int) -> None:
        """Writes a descriptor; ``flags`` is its upper status byte, OWN = 0x80, STP = 2, ENP = 1."""
        count = -size & 0xFFFF | 0xF000
        if self.style == 0:
            raw = struct.pack("<HHHH", address & 0xFFFF, flags << 8 | address >> 16 & 0xFF, count, 0)
        elif self.style == 3:
            raw = struct.pack("<IIII", 0, flags << 24 | count, address, 0)
        else:
            raw = struct.pack("<IIII", address, flags << 24 | count, 0, 0)
        at = self.where(ring, index)
        self.ram[at : at + len(raw)] = raw

    def get(self, ring: str, index: int) -> Descriptor:
        """Reads a descriptor back."""
        at = self.where(ring, index)
        if self.style == 0:
            low, high, count, result = struct.unpack("<HHHH", self.ram[at : at + 8])
            value = result >> 10 if ring == TX else result
            return Descriptor(low | (high & 0xFF) << 16, high >> 8, 0, -count & 0xFFF or 4096, value)
        words = struct.unpack("<IIII", self.ram[at : at + 16])
        address, status, result = (words[2], words[1], words[0]) if self.style == 3 else words[:3]
        value = result >> 26 if ring == TX else result
        return Descriptor(address, status >> 24, status >> 20 & 7, -status & 0xFFF or 4096, value)

    def lend(self, index: int, size: int = 1544) -> None:
        """Gives the chip a RMD with the rig's buffer for it."""
        self.put(RX, index, self.buffer_address(RX, index), size, 0x80)

    def lend_all(self, count: int, size: int = 1544) -> None:
        """Gives the chip the first ``count`` RMDs."""
        for index in range(count):
            self.lend(index, size)

    def queue(self, index: int, data: bytes, flags: int = 0x83) -> None:
        """Puts ``data`` into the rig's buffer for a TMD and hands the TMD over; OWN | STP | ENP unless told."""
        address = self.buffer_address(TX, index)
        self.ram[address : address + len(data)] = data
        self.put(TX, index, address, len(data), flags)

    def kick(self) -> None:
        """TDMD, as Linux writes it."""
        self.write_csr(0, 0x0048)

    def received(self, index: int) -> bytes:
        """The frame in the rig's buffer of RMD ``index``, with FCS, as long as its MCNT says."""
        address = self.buffer_address(RX, index)
        return bytes(self.ram[address : address + (self.get(RX, index).result & 0xFFF)])
