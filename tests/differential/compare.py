"""Both machines side by side: every step is given to both, and all that can be seen is compared after it.

After each port access, store, or frame from the wire more than one polling interval goes by on either side. Then are
compared: the value read, CSR0, the level of INTA#, the frames sent, and every byte of guest memory; ``finish`` reads
all registers. What differs is put to the table of known errors; what it explains is made equal again in QEMU, so that
it cannot hide anything later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from machine.lance import bits
from tests.differential.context import Context
from tests.differential.corrections import Corrections, Difference, SequenceEnd
from tests.differential.knownerrors import KNOWN_ERRORS
from tests.differential.machines import OurMachine
from tests.differential.memorydiff import make_equal
from tests.differential.qemumachine import QemuMachine
from tests.differential.row import KnownError
from tests.differential.steps import (
    BCR,
    CSR,
    RESET,
    WINDOW,
    Access,
    Config,
    Inject,
    Link,
    Port,
    Step,
    Store,
    accesses,
    decode,
)

__all__ = ["Comparison"]

_STATUS: Final = Access(0x10, 2, None, CSR, 0)
_NOTHING: Final = Store(0, b"")
_CONFIG_BYTES: Final = 256
_REGISTERS: Final = [(CSR, i) for i in range(128)] + [(BCR, i) for i in range(64)]


class Comparison:
    """One sequence on both machines, from reset on. ``used``: names of the rows that changed or ended anything."""

    def __init__(self, qemu: QemuMachine, rows: Sequence[KnownError] = KNOWN_ERRORS) -> None:
        qemu.reset()
        self.ours, self.qemu = OurMachine(), qemu
        self.context = Context(self.ours, qemu)
        self._table = Corrections(rows, self.context)
        for setting in qemu.settings:
            self.ours.config(setting)
        self._same = bytes(WINDOW)
        qemu.memory[:] = self._same

    @property
    def used(self) -> set[str]:
        """Names of the rows that have changed or ended anything."""
        return self._table.used

    def run(self, steps: Iterable[Step]) -> str | None:
        """A whole sequence, with ``finish``; the name of the row that has ended it before its time, if any."""
        try:
            for step in steps:
                self.step(step)
            self.finish()
        except SequenceEnd as end:
            return str(end)
        return None

    def step(self, step: Step) -> None:
        """Carries out one step on both. Raises Difference, or SequenceEnd if the comparison is over."""
        if isinstance(step, Store):
            self._store(step)
        elif isinstance(step, Inject):
            self._inject(step)
        elif isinstance(step, Config):
            self._config(step)
        elif isinstance(step, Link):
            self._link(step)
        else:
            for port in accesses(step, self._dwio):
                self._access(step, port)

    def finish(self) -> None:
        """Compares all registers, as the guest would read them."""
        width, ports = (4, {CSR: 0x10, BCR: 0x1C}) if self._dwio else (2, {CSR: 0x10, BCR: 0x16})
        reads = [Access(ports[space], width, None, space, i) for space, i in _REGISTERS]
        lines = [line for read in reads for line in (self.qemu.select(read.index), self.qemu.command(read))]
        for read, answer in zip(reads, self.qemu.run(lines)[1::2], strict=True):
            self._begin(_NOTHING, read)
            self.ours.regs.rap = read.index
            ours = self.ours.regs.read(read.offset, read.width)  # no register changes by being read
            self._equal(f"{read.space}{read.index} at the end", ours, self._read(read, answer))

    @property
    def _dwio(self) -> bool:
        return bool(self.ours.bcr(18) & bits.BCR18_DWIO)

    def _begin(self, step: Step, access: Access | None) -> None:
        self.context.begin(step, access)
        self.context.before = self._same
        self.ours.looped.clear()

    def _store(self, step: Store) -> None:
        for memory in (self.ours.memory, self.qemu.memory):
            memory[step.address : step.address + len(step.data)] = step.data
        self._same = bytes(self.ours.memory)
        self._begin(step, None)
        self._pass_time([])

    def _inject(self, step: Inject) -> None:
        self._begin(step, None)
        if self._table.skips():
            return
        withheld = self._table.withholds()
        self.ours.inject(step.frame)
        self._table.check_end()
        if not withheld:
            self.qemu.inject(self._table.arriving(step.frame))
        self._pass_time([])

    def _link(self, step: Link) -> None:
        self._begin(step, None)
        self.ours.set_link(step.up)
        self.qemu.set_link(step.up)
        self._pass_time([])

    def _config(self, step: Config) -> None:
        self._begin(step, None)
        withheld = self._table.withholds()
        given = None if step.value is None else self._table.given(step.value)
        ours = self.ours.config(step)
        theirs = 0 if withheld else self.qemu.config(Config(step.offset, step.width, given))
        self._equal(f"{step}", ours, self._table.read(theirs))
        if step.value is not None:
            for offset in range(0, _CONFIG_BYTES, 4):
                read = Config(offset, 4)
                self._begin(read, None)
                self._equal(f"{read} after {step}", self.ours.config(read), self._table.read(self.qemu.config(read)))
            for setting in self.qemu.settings:
                self.ours.config(setting)
                self.qemu.config(setting)

    def _access(self, step: Step, port: Port) -> None:
        """One port access: to ours first, as what it does there decides what QEMU is to be given."""
        access = decode(port, self.ours.regs.rap, self._dwio)
        self._begin(step, access)
        if self._table.skips():
            return
        withheld = self._table.withholds()
        value = None if access.value is None else self._table.given(access.value)
        answer = self.ours.access(access)
        self._remember(access)
        self.qemu.rap, self.qemu.dwio = self.ours.regs.rap, self._dwio
        lines = [] if withheld else [self.qemu.command(Access(access.offset, access.width, value))]
        seen = self._pass_time([*lines, *self._table.afterwards()])
        if access.value is None:
            nothing = (1 << 8 * access.width) - 1
            self.context.access = access
            self._equal(f"{access}", answer, nothing if withheld else self._read(access, seen[0]))

    def _read(self, access: Access, value: int) -> int:
        """What the chip would have answered where QEMU answers ``value``."""
        value = self._table.read(value)
        return self._with(value, self._table.hidden()) if access.reaches(CSR, 0) else value

    def _remember(self, access: Access) -> None:
        """What later steps have to know of this access."""
        c = self.context
        if access.writes and access.reaches(CSR, 4):
            c.sent_since_csr4 = False
        if access.space == RESET and not access.writes:
            c.stuck = c.held = c.sent_since_csr4 = False
            c.rings_lost = True
        elif c.now(0, bits.CSR0_STOP) and not c.was(0, bits.CSR0_STOP):
            c.stuck = True
        elif c.now(0, bits.CSR0_STRT) and not c.was(0, bits.CSR0_STRT) and not c.mode & bits.CSR15_DTX:
            c.stuck = False
        if c.initialised:
            c.rings_lost = False

    def _pass_time(self, lines: list[str]) -> list[int]:
        """QEMU carries out ``lines``, time passes on both sides, and everything is compared; QEMU's answers."""
        self.ours.time_passes()
        self.context.looped = list(self.ours.looped)
        self._table.check_end()
        seen = self.qemu.run([*lines, self.qemu.interval, *self.qemu.raw_csr0()])
        self._frames()
        self._same = make_equal(self.context, self._table)
        self._status(seen[-2])
        return seen

    def _frames(self) -> None:
        c = self.context
        c.sent, raw = self.ours.sent(), self.qemu.sent()
        c.sent_since_csr4 |= bool(raw or c.looped)
        theirs = self._table.frames(raw)
        if c.sent != theirs:
            ours, others = ([frame.hex() for frame in frames] for frames in (c.sent, theirs))
            raise Difference(f"{c.step}: sent {others}, not {ours}")

    def _status(self, csr0: int) -> None:
        """CSR0 and the level of INTA#."""
        c = self.context
        c.access = _STATUS
        hidden = self._table.hidden()
        theirs = self._with(self._table.read(csr0), hidden)
        extra = self._table.surplus(theirs & ~c.csr(0) & bits.CSR0_CAUSES)
        if extra:
            lines = self.qemu.raw_csr(0, extra | c.csr(0) & bits.CSR0_INEA)
            csr0 = self.qemu.run([*lines, *self.qemu.raw_csr0()])[-2]
            theirs = self._with(self._table.read(csr0), hidden)
        self._equal(f"CSR0 after {c.step}", c.csr(0), theirs)
        level = self.qemu.level() | (1 if hidden and theirs & bits.CSR0_INTR and theirs & bits.CSR0_INEA else 0)
        self._equal(f"INTA# after {c.step}", self.ours.level(), level)

    def _with(self, csr0: int, hidden: int) -> int:
        """CSR0 with causes that QEMU lacks, and with what follows from them."""
        csr0 |= hidden & bits.CSR0_CAUSES
        if csr0 & bits.CSR0_ERRORS:
            csr0 |= bits.CSR0_ERR
        masks = self.context.csr(3)
        return csr0 | (bits.CSR0_INTR if hidden & (bits.CSR0_INTR | bits.CSR3_MASKS & ~masks) else 0)

    def _equal(self, what: str, ours: int, theirs: int) -> None:
        if ours != theirs:
            raise Difference(f"{what}: {theirs:#06x}, not {ours:#06x}")
