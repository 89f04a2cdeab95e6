"""What a known error may look at: the step, our device before and after it, and both rings as memory shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from machine.lance import bits
from tests.differential.machines import OurMachine
from tests.differential.qemumachine import QemuMachine
from tests.differential.steps import CSR, WINDOW, Access, Inject, Step, Store
from vmapp.lance.descriptors import LAYOUTS
from vmapp.lance.filter import AddressFilter

__all__ = ["RX", "TX", "Context", "Entry", "RingView"]

RX: Final = "rx"
TX: Final = "tx"
_CSRS_OF: Final = {RX: (24, 72, 76), TX: (30, 74, 78)}  # base, counter, length


@dataclass(frozen=True, slots=True)
class Entry:
    """A descriptor in memory: where it is, and its words in the order (status, count, result, buffer address)."""

    at: int
    status: int
    count: int
    result: int
    buffer: int

    @property
    def owned(self) -> bool:
        """The chip's."""
        return bool(self.status & bits.TMD1_OWN)

    @property
    def stp(self) -> bool:
        """Start of a packet."""
        return bool(self.status & bits.TMD1_STP)

    @property
    def enp(self) -> bool:
        """End of a packet."""
        return bool(self.status & bits.TMD1_ENP)

    @property
    def size(self) -> int:
        """Bytes of its buffer."""
        return -self.count & bits.TMD1_BCNT or 4096


@dataclass(frozen=True, slots=True)
class RingView:
    """A ring as the registers put it, over the memory as it was before the step."""

    memory: bytes
    base: int
    length: int
    position: int
    style: int

    @property
    def step(self) -> int:
        """Bytes of a descriptor."""
        return 4 * LAYOUTS[self.style].words

    @property
    def valid(self) -> bool:
        """The position is one of the ring's."""
        return self.position < self.length

    def entry(self, ahead: int) -> Entry | None:
        """The descriptor that many places after the chip's position; None outside the window."""
        at = self.base + (self.position + ahead) % self.length * self.step
        return self.decode(at)

    def decode(self, at: int) -> Entry | None:
        """The descriptor at an address; None outside the window."""
        if not 0 <= at <= WINDOW - self.step:
            return None
        layout = LAYOUTS[self.style]
        words = [int.from_bytes(self.memory[at + 4 * i : at + 4 * i + 4], "little") for i in range(layout.words)]
        address = words[layout.address] & layout.address_mask
        return Entry(at, words[layout.status], words[layout.count], words[layout.result], address)

    def owned(self) -> list[Entry]:
        """The chip's descriptors from its position on, up to the first that is not."""
        run = []
        for ahead in range(min(self.length, WINDOW // self.step)):
            entry = self.entry(ahead)
            if entry is None or not entry.owned:
                break
            run.append(entry)
        return run

    def place(self, address: int) -> tuple[Entry, int] | None:
        """The descriptor that an address lies in, and which of its words; None if it lies in none."""
        index, offset = divmod(address - self.base, self.step)
        if not 0 <= index < self.length:
            return None
        entry = self.decode(self.base + index * self.step)
        return None if entry is None else (entry, offset >> 2)


@dataclass
class Context:
    """One step of a sequence. ``before``: memory, ``csrs``: all CSRs, before it; both are the same on either side.

    ``demanded``: the step sets TDMD.
    What one step leaves to later ones: ``stuck``: QEMU shows, and obeys, a TXON that STOP should have cleared.
    ``rings_lost``: QEMU has forgotten the rings. ``sent_since_csr4``: frames went out since CSR4 was written.
    ``held``: DPOLL is set in QEMU, whatever the guest has written. ``hidden``: causes in CSR0 that QEMU lacks.
    """

    ours: OurMachine
    qemu: QemuMachine
    step: Step = field(default_factory=lambda: Store(0, b""))
    access: Access | None = None
    before: bytes = bytes(WINDOW)
    csrs: tuple[int, ...] = (0,) * 128
    sent: list[bytes] = field(default_factory=list)
    looped: list[bytes] = field(default_factory=list)
    merrs: int = 0
    demanded: bool = False
    stuck: bool = False
    rings_lost: bool = False
    sent_since_csr4: bool = False
    held: bool = False
    hidden: int = 0

    def begin(self, step: Step, access: Access | None) -> None:
        """A step begins, or one access of a step that consists of several."""
        self.step, self.access = step, access
        self.csrs = tuple(self.ours.csr(i) for i in range(128))
        self.merrs = self.ours.counter("memory_errors")
        self.sent, self.looped = [], []
        value = access.value if access is not None and access.reaches(CSR, 0) else None
        self.demanded = value is not None and bool(value & bits.CSR0_TDMD)

    def csr(self, index: int) -> int:
        """A CSR of ours as it is now."""
        return self.ours.csr(index)

    def bcr(self, index: int) -> int:
        """A BCR of ours as it is now."""
        return self.ours.bcr(index)

    @property
    def style(self) -> int:
        """SWSTYLE."""
        return self.ours.regs.swstyle & 3

    @property
    def mode(self) -> int:
        """CSR15."""
        return self.csr(15)

    def was(self, csr: int, mask: int) -> bool:
        """Bits of a CSR were set before the step."""
        return bool(self.csrs[csr] & mask)

    def now(self, csr: int, mask: int) -> bool:
        """Bits of a CSR are set."""
        return bool(self.csr(csr) & mask)

    def writes(self, space: str, *indices: int) -> bool:
        """The access writes one of these registers."""
        access = self.access
        return access is not None and access.writes and access.space == space and access.index in indices

    def reads(self, space: str, *indices: int) -> bool:
        """The access reads one of these registers."""
        access = self.access
        return access is not None and not access.writes and access.space == space and access.index in indices

    @property
    def transmits(self) -> bool:
        """The transmitter is on in this step, or was, and looks at its ring: what is queued goes out."""
        if self.now(4, bits.CSR4_DPOLL) and not self.was(0, bits.CSR0_TDMD) and not self.demanded:
            return False
        started = not self.was(0, bits.CSR0_STRT) and self.now(0, bits.CSR0_STRT) and not self.mode & bits.CSR15_DTX
        return (self.was(0, bits.CSR0_TXON) or started) and not self.now(5, bits.CSR5_SPND)

    @property
    def carrier_lost(self) -> bool:
        """What is transmitted meets no carrier: the cable is out, and loopback does not stay inside."""
        inside = bits.CSR15_LOOP | bits.CSR15_INTL
        return not self.ours.link_up and self.mode & inside != inside

    @property
    def initialised(self) -> bool:
        """The step has carried out INIT."""
        return not self.was(0, bits.CSR0_INIT) and self.now(0, bits.CSR0_INIT)

    def ring(self, name: str) -> RingView:
        """A ring as the step's DMA found it: memory and position from before, unless INIT has just set it up."""
        base, counter, length = _CSRS_OF[name]
        csrs = [self.csr(i) for i in range(80)] if self.initialised else self.csrs
        address = csrs[base] | csrs[base + 1] << 16
        if not self.style:
            address = address & 0xFFFFFF | (csrs[2] & 0xFF00) << 16
        size = -csrs[length] & 0xFFFF or 0x10000
        position = 0 if self.initialised else csrs[counter] - csrs[length] & 0xFFFF
        return RingView(self.before, address, size, position, self.style)

    @property
    def frame(self) -> bytes | None:
        """The frame that the step injects."""
        return self.step.frame if isinstance(self.step, Inject) else None

    def incoming(self) -> Iterator[bytes]:
        """Frames without FCS that the receiver takes in this step, padded as a sender pads them."""
        addresses = AddressFilter()
        addresses.configure(self.ours.regs.words, match_bits=True)
        offered = self.looped if self.frame is None else [self.frame.ljust(60, b"\0")]
        yield from (frame for frame in offered if addresses.match(frame[:6]) is not None)
