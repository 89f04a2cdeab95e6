"""A guest that keeps to no rule, played by this program in the guest's place (``tests.kit.hostile``).

Arguments: seed, seconds, control descriptor. From the seed it does what a compromised guest could: any port
access, garbage in every word of the gate page and of its RAM, base addresses on top of other devices, rings and
init blocks anywhere, OWN bits that a second thread flips. Then it cleans up, brings the chip up like a driver,
sends a frame, and reports the event "sane".
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from machine import ring
from machine.lance.bits import CSR0_INEA, CSR0_INIT, CSR0_STOP, CSR0_STRT, CSR0_TDMD, TMD1_ENP, TMD1_OWN, TMD1_STP
from machine.launch import IRQ_SIGNAL, Station, run_role
from machine.layout import INTERRUPT_MAILBOX, SLEEPS_VMM
from machine.ports import LANCE_DEFAULT_BASE, PCI_CONFIG_ADDRESS, PIC_EOI, PIC_MASTER_COMMAND, PIC_SLAVE_COMMAND
from tests.kit.hostile_traps import Chip, Driver, Traps

__all__ = ["main"]

_KINDS: Final = (ring.KIND_IN, ring.KIND_OUT)
_RANGES: Final = ((LANCE_DEFAULT_BASE, 32), (PCI_CONFIG_ADDRESS, 8), (PIC_MASTER_COMMAND, 2), (PIC_SLAVE_COMMAND, 2))
_SPREAD: Final = ((0x4D0, 2), (0, 0x1_0000))
_CSR0_VALUES: Final = (CSR0_INIT, CSR0_STRT, CSR0_STOP, CSR0_TDMD, 0x0048, 0x7F40, 0xFFFF, 0)


class Attack:
    """One seed's misdeeds."""

    def __init__(self, station: Station, traps: Traps, seed: int) -> None:
        self._random = random.Random(seed)
        self._traps = traps
        self._chip = Chip(traps)
        self._ram = station.ram
        self._words = station.ram.cast("I")
        self._rings = [0x1000, 0x2000]  # byte addresses that descriptors were last put at
        self._beginning, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._flip, args=(seed,), daemon=True)
        self._thread.start()  # now: no role may start a thread once it has given its rights up
        self._steps: tuple[Callable[[], None], ...] = (
            self.any_ports,
            self.any_ports,
            self.scribble_gate,
            self.scribble_ram,
            self.move_bar,
            self.start_chip,
            self.start_chip,
            self.take_interrupts,
            self.halt,
        )

    def run(self, seconds: float) -> None:
        """Steps in random order until time is over."""
        deadline = time.monotonic() + seconds
        self._beginning.set()
        while time.monotonic() < deadline:
            self._random.choice(self._steps)()
        self._ending.set()
        self._thread.join()

    def any_ports(self) -> None:
        """Accesses of every kind and width, most of them to ports that somebody decodes."""
        rng = self._random
        for _ in range(20):
            first, count = rng.choice(_RANGES * 4 + _SPREAD)
            key = ring.pack_key(rng.choice(_KINDS), rng.choice((1, 2, 4)), first + rng.randrange(count))
            if not rng.randrange(50):
                key = rng.getrandbits(64)
            self._traps.trap(key, rng.choice((rng.getrandbits(64), rng.getrandbits(16), rng.getrandbits(7))))

    def scribble_gate(self) -> None:
        """Garbage in the trap ring, the interrupt mailbox, and everything else on the gate page."""
        rng, gate = self._random, self._traps.gate
        for _ in range(rng.randrange(1, 200)):
            index = rng.choice((rng.randrange(len(gate)), rng.randrange(ring.RING_WORDS + 32)))
            if index != SLEEPS_VMM:  # the vmm's own way to be woken; a guest that clears it only deafens itself
                gate[index] = rng.choice((rng.getrandbits(64), rng.getrandbits(8), ring.POSTED, ring.COMPLETE, 0))

    def scribble_ram(self) -> None:
        """Random bytes anywhere, the rings among them."""
        rng = self._random
        for _ in range(10):
            at = rng.choice((*self._rings, rng.randrange(len(self._ram) - 4096)))
            size = rng.randrange(1, 4096)
            self._fill(at, rng.randbytes(size))

    def move_bar(self) -> None:
        """BAR 0 anywhere, on top of other devices too; decoding and bus mastering on or off."""
        rng = self._random
        base = rng.choice((LANCE_DEFAULT_BASE, 0xCE0, 0x20, 0xFFE0, rng.getrandbits(32)))
        self._chip.configure(
            rng.choice((0x10, 0x10, 0x04, rng.randrange(256))), rng.choice((base, rng.getrandbits(32)))
        )
        self._chip.configure(0x10, base)
        if rng.randrange(4):
            self._chip.configure(0x10, LANCE_DEFAULT_BASE)
            self._chip.configure(0x04, 5)

    def start_chip(self) -> None:
        """An init block and rings with every mistake in them, then INIT, STRT, TDMD and other things."""
        rng, chip = self._random, self._chip
        if rng.randrange(8):
            chip.enable()
        block = self._address()
        self._fill(block, rng.randbytes(28))
        self._rings = [self._address() & ~0xF for _ in range(2)]
        for offset, base in zip((20, 24), self._rings, strict=True):
            self._fill(block + offset, base.to_bytes(4, "little"))
            self._fill_ring(base)
        chip.write_csr(0, CSR0_STOP)
        chip.write_bcr(20, rng.randrange(4))
        for csr, value in ((rng.choice((3, 4, 5, 15, 58)), rng.getrandbits(16)), (1, block), (2, block >> 16)):
            chip.write_csr(csr, value)
        chip.write_csr(0, CSR0_INIT)
        chip.write_csr(0, CSR0_STRT | CSR0_INEA | CSR0_TDMD)
        for _ in range(rng.randrange(1, 12)):
            chip.write_csr(0, rng.choice(_CSR0_VALUES))
            if not rng.randrange(4):
                chip.write_csr(rng.randrange(128), rng.getrandbits(16))

    def take_interrupts(self) -> None:
        """Makes room for the next interrupt, and sometimes says that it has been served."""
        rng, traps = self._random, self._traps
        for _ in range(4):
            traps.gate[INTERRUPT_MAILBOX] = 0
            for command in (PIC_SLAVE_COMMAND, PIC_MASTER_COMMAND):
                traps.write(command, 1, rng.choice((PIC_EOI, PIC_EOI, rng.getrandbits(8))))
            traps.write(rng.choice((PIC_MASTER_COMMAND, PIC_SLAVE_COMMAND)) + 1, 1, rng.choice((0, rng.getrandbits(8))))

    def halt(self) -> None:
        """HLT, ended by hand or by the next access."""
        self._traps.post_halt(bool(self._random.randrange(2)))
        time.sleep(0.001)

    def _flip(self, seed: int) -> None:
        """The other thread: changes descriptors while the chip looks at them."""
        rng = random.Random(~seed)
        self._beginning.wait()
        while not self._ending.is_set():
            for _ in range(50):
                index = (rng.choice(self._rings) + 4 * rng.randrange(2048)) // 4
                if index < len(self._words):
                    self._words[index] ^= rng.choice((TMD1_OWN, TMD1_ENP, TMD1_STP, rng.getrandbits(32)))
            time.sleep(0.0005)

    def _address(self) -> int:
        """Any address: in RAM, at its ends, beyond it, and where adding to it overflows 32 bits."""
        rng, size = self._random, len(self._ram)
        near = rng.choice((0, size, 1 << 24, 1 << 31, 1 << 32)) + rng.randrange(-64, 64)
        return rng.choice((rng.randrange(size), rng.randrange(size), rng.randrange(size), near)) & 0xFFFF_FFFF

    def _fill(self, at: int, data: bytes) -> None:
        if at + len(data) <= len(self._ram):
            self._ram[at : at + len(data)] = data

    def _fill_ring(self, base: int) -> None:
        """Descriptors, most of them owned by the chip; lengths 0 to 4096; whole frames, endless chains, or neither."""
        rng = self._random
        ends = rng.choice((TMD1_STP | TMD1_ENP, 0, TMD1_STP, TMD1_ENP))
        for at in range(base, base + 16 * rng.choice((1, 8, 512)), 16):
            status = TMD1_OWN | ends | rng.choice((0xF000 | rng.getrandbits(12), rng.getrandbits(32), 0xFA00))
            words = (self._address(), status, rng.getrandbits(32), rng.choice((self._address(), rng.getrandbits(32))))
            self._fill(at, b"".join(word.to_bytes(4, "little") for word in words))


def _prepare(station: Station) -> Callable[[], None]:
    seed, seconds = int(sys.argv[1]), float(sys.argv[2])
    signal.signal(IRQ_SIGNAL, lambda *_: None)

    traps = Traps(station)
    attack = Attack(station, traps, seed)

    def play() -> None:
        station.control.send({"event": "running"})
        attack.run(seconds)
        answered, unanswered = traps.answered, traps.unanswered
        outcome = Driver(station, traps).boot()
        slowest = traps.slowest_s
        station.control.send(
            {"event": "sane", "answered": answered, "unanswered": unanswered, "slowest_s": slowest, **outcome}
        )
        station.control.receive()  # the test ends the stack

    return play


def main() -> int:
    """The process's life; its exit status."""
    return run_role("guest", _prepare)


if __name__ == "__main__":
    sys.exit(main())
