"""What both Lance drivers share: register access, rings and buffers in guest memory, bringing the chip up.

Written after the register-level behaviour of Linux's pcnet32 (drivers/net/pcnet32.c): 16-bit register access
(WIO), software style 2, 32-bit init block, one buffer a frame. Each CSR access is two port accesses: RAP, RDP.
"""

from __future__ import annotations

import os
from typing import Final

from guest.cpu import Cpu
from guest.memory import GuestRam
from machine.counters import GUEST, indices
from machine.errors import SetupError
from machine.lance.bits import (
    CSR0_IDON,
    CSR0_INEA,
    CSR0_INIT,
    CSR0_STOP,
    CSR0_STRT,
    CSR4_APAD_XMT,
    CSR4_DMAPLUS,
    CSR4_MFCOM,
    CSR4_RCVCCOM,
    CSR4_TXSTRTM,
    CSR15_PROM,
    RMD1_ENP,
    RMD1_ERR,
    RMD1_OWN,
    RMD1_STP,
    TMD1_ENP,
    TMD1_OWN,
    TMD1_STP,
)
from machine.tapend import end_if_gone

__all__ = ["BUFFER_BYTES", "LARGEST_FRAME", "WHOSE", "Pcnet"]

LARGEST_FRAME: Final = 1518  # Ethernet header, a VLAN tag (IEEE 802.1Q) and 1500 bytes, no FCS
BUFFER_BYTES: Final = 1544  # pcnet32's PKT_BUF_SZ
_BUFFER_STRIDE: Final = 1600
_FCS_BYTES: Final = 4

_RDP: Final = 0x10
_RAP: Final = 0x12
_RESET: Final = 0x14
_BDP: Final = 0x16

_CSR4_SETUP: Final = CSR4_DMAPLUS | CSR4_APAD_XMT | CSR4_MFCOM | CSR4_RCVCCOM | CSR4_TXSTRTM
_SWSTYLE_PCNET: Final = 2
_SWSTYLE_OFF: Final = 4  # what pcnet32_close leaves in BCR20: 16-bit mode, for whoever comes next
_POLLS_FOR_IDON: Final = 100

_TX_HANDOVER: Final = TMD1_OWN | TMD1_STP | TMD1_ENP
_RX_GOOD_MASK: Final = RMD1_OWN | RMD1_ERR | RMD1_STP | RMD1_ENP
_RX_GOOD: Final = RMD1_STP | RMD1_ENP
_ONES: Final = 0xF000
_RX_HANDOVER: Final = RMD1_OWN | _ONES | (-BUFFER_BYTES & 0xFFF)

_COUNTERS: Final = indices(GUEST)
_TAP_READS: Final = _COUNTERS["guest_tap_reads"]
_TAP_WRITES: Final = _COUNTERS["guest_tap_writes"]
WHOSE: Final = "guest's"  # TAP, in messages
_RX_ERRORS: Final = _COUNTERS["guest_rx_errors"]
_RING_FULL: Final = _COUNTERS["guest_tx_ring_full"]
_TOO_LONG: Final = _COUNTERS["guest_tx_too_long"]


class Pcnet:
    """The chip, its rings and the guest's network stack between which it moves frames.

    ``io_base``: BAR 0. ``tap_fd``: the guest's network stack, non-blocking. Rings of 2**``log_tx`` and
    2**``log_rx`` descriptors.
    """

    def __init__(
        self, cpu: Cpu, ram: GuestRam, io_base: int, tap_fd: int, counters: memoryview, log_tx: int, log_rx: int
    ) -> None:
        self.cpu = cpu
        self.tap_fd = tap_fd
        self.counters = counters
        self.rdp, self.rap = io_base + _RDP, io_base + _RAP
        self._reset, self._bdp = io_base + _RESET, io_base + _BDP
        self.words = ram.words
        self._bytes = ram.bytes
        self.tx_size, self.rx_size = 1 << log_tx, 1 << log_rx
        self._logs = log_tx, log_rx
        self._init_block = ram.allocate(28)
        self._tx_ring, self._tx_buffers = self._make_ring(ram, self.tx_size)
        self._rx_ring, self._rx_buffers = self._make_ring(ram, self.rx_size)
        self.tx_word, self.rx_word = self._tx_ring // 4, self._rx_ring // 4
        # A little longer than the longest frame, so that a read shows whether there was more of it.
        self._tx_views = [[self._bytes[at : at + BUFFER_BYTES]] for at in self._tx_buffers]
        self.up = False  # whether the chip has been opened
        self.mac = b""  # the station address that it has been given
        self.tx_next = 0  # descriptor that the next frame goes into
        self.tx_dirty = 0  # oldest descriptor that the chip may still own
        self.tx_used = 0
        self.rx_next = 0

    @staticmethod
    def _make_ring(ram: GuestRam, size: int) -> tuple[int, list[int]]:
        ring = ram.allocate(16 * size)
        first = ram.allocate(_BUFFER_STRIDE * size)
        return ring, [first + i * _BUFFER_STRIDE for i in range(size)]

    # -- registers ------------------------------------------------------------------------------------------

    def read_csr(self, index: int) -> int:
        """CSR ``index``, by RAP and RDP."""
        self.cpu.write_port(self.rap, 2, index)
        return self.cpu.read_port(self.rdp, 2)

    def write_csr(self, index: int, value: int) -> None:
        """Writes CSR ``index``, by RAP and RDP."""
        self.cpu.write_port(self.rap, 2, index)
        self.cpu.write_port(self.rdp, 2, value)

    def write_bcr(self, index: int, value: int) -> None:
        """Writes BCR ``index``, by RAP and BDP."""
        self.cpu.write_port(self.rap, 2, index)
        self.cpu.write_port(self._bdp, 2, value)

    # -- bringing the chip up, and down ------------------------------------------------------------------------

    def open(self, mac: bytes, promiscuous: bool = False, ladrf: int = 0) -> None:
        """Reset, init block, rings, INIT, then STRT and INEA; SetupError if the chip does not answer.

        ``mac``: six bytes. ``ladrf``: the 64 bits of the multicast filter.
        """
        self.cpu.read_port(self._reset, 2)
        if self.read_csr(0) != 0x0004:
            raise SetupError("the guest's driver found no Lance: CSR0 is not 4 after reset")
        self.write_bcr(20, _SWSTYLE_PCNET)
        self.write_csr(4, _CSR4_SETUP)
        self._fill_init_block(mac, promiscuous, ladrf)
        self._fill_rings()
        self.write_csr(1, self._init_block & 0xFFFF)
        self.write_csr(2, self._init_block >> 16)
        self.write_csr(0, CSR0_INIT)
        for _ in range(_POLLS_FOR_IDON):
            if self.read_csr(0) & CSR0_IDON:
                break
        else:
            raise SetupError("the Lance did not finish its initialisation (IDON)")
        self.write_csr(0, CSR0_IDON | CSR0_INEA | CSR0_STRT)
        self.up, self.mac = True, mac

    def close(self) -> None:
        """pcnet32_close(): STOP, and the chip is deaf. What its rings still held is gone, as in a card that is off."""
        self.write_csr(0, CSR0_STOP)
        self.write_bcr(20, _SWSTYLE_OFF)
        self._fill_rings()
        self.up = False

    def _fill_init_block(self, mac: bytes, promiscuous: bool, ladrf: int) -> None:
        log_tx, log_rx = self._logs
        block = self._bytes[self._init_block : self._init_block + 28]
        block[:] = bytes(28)
        block[0:2] = (CSR15_PROM if promiscuous else 0).to_bytes(2, "little")
        block[2:4] = (log_tx << 12 | log_rx << 4).to_bytes(2, "little")
        block[4:10] = mac
        block[12:20] = ladrf.to_bytes(8, "little")
        block[20:24] = self._rx_ring.to_bytes(4, "little")
        block[24:28] = self._tx_ring.to_bytes(4, "little")

    def _fill_rings(self) -> None:
        """Every RMD is the chip's and every TMD the driver's, as both are after INIT: from the first one on."""
        self.tx_next = self.tx_dirty = self.tx_used = self.rx_next = 0
        for i, buffer in enumerate(self._rx_buffers):
            self.words[self.rx_word + 4 * i] = buffer
            self.words[self.rx_word + 4 * i + 1] = _RX_HANDOVER
        for i, buffer in enumerate(self._tx_buffers):
            self.words[self.tx_word + 4 * i] = buffer
            self.words[self.tx_word + 4 * i + 1] = 0

    # -- frames -----------------------------------------------------------------------------------------------

    def queue_from_stack(self, flags: int = 0) -> bool:
        """Moves one frame from the network stack into the next free TMD and gives it to the chip.

        False if the stack has none; the caller has seen to it that a TMD is free. ``flags``: further TMD1 bits.
        NetworkError if the stack's interface was deleted. A frame that the card cannot carry is counted and dropped,
        never cut.
        """
        index = self.tx_next
        try:
            while (length := os.readv(self.tap_fd, self._tx_views[index])) > LARGEST_FRAME:
                self.counters[_TOO_LONG] += 1
        except BlockingIOError:
            return False
        except OSError as error:
            end_if_gone(self.tap_fd, error, WHOSE)
            return False
        word = self.tx_word + 4 * index
        self.words[word + 2] = 0
        self.words[word + 1] = _TX_HANDOVER | flags | _ONES | (-length & 0xFFF)  # OWN last
        self.tx_next = (index + 1) % self.tx_size
        self.tx_used += 1
        self.counters[_TAP_READS] += 1
        return True

    def reclaim(self) -> None:
        """Takes back every TMD that the chip has finished with."""
        words, size = self.words, self.tx_size
        while self.tx_used and not words[self.tx_word + 4 * self.tx_dirty + 1] & TMD1_OWN:
            self.tx_dirty = (self.tx_dirty + 1) % size
            self.tx_used -= 1

    def last_queued(self) -> int:
        """The word of the status of the frame queued last."""
        return self.tx_word + 4 * ((self.tx_next - 1) % self.tx_size) + 1

    def status_after(self, word: int) -> int:
        """The word of the status of the descriptor after the one whose status is ``word``."""
        return self.tx_word + ((word - self.tx_word + 4) % (4 * self.tx_size))

    def still_owned(self, word: int) -> bool:
        """Whether the chip has not finished the frame whose status is ``word`` yet."""
        return bool(self.words[word] & TMD1_OWN)

    def note_ring_full(self) -> None:
        """Counts a moment at which no TMD was free."""
        self.counters[_RING_FULL] += 1

    def receive(self, budget: int) -> int:
        """Hands at most ``budget`` received frames to the network stack and their RMDs back to the chip."""
        words, data, fd, size = self.words, self._bytes, self.tap_fd, self.rx_size
        index = self.rx_next
        done = 0
        while done < budget:
            word = self.rx_word + 4 * index
            status = words[word + 1]
            if status & RMD1_OWN:
                break
            if status & _RX_GOOD_MASK == _RX_GOOD:
                length = (words[word + 2] & 0xFFF) - _FCS_BYTES
                buffer = self._rx_buffers[index]
                self._to_stack(fd, data[buffer : buffer + length])
            else:
                self.counters[_RX_ERRORS] += 1
            words[word + 1] = _RX_HANDOVER
            index = (index + 1) % size
            done += 1
        self.rx_next = index
        return done

    def _to_stack(self, fd: int, frame: memoryview) -> None:
        try:
            os.write(fd, frame)
            self.counters[_TAP_WRITES] += 1
        except OSError as error:  # the stack refused it: interface down, or not a frame
            end_if_gone(fd, error, WHOSE)
            self.counters[_RX_ERRORS] += 1
