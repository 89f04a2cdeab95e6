"""The 8259A pair against a reference: the data sheet's rules, written down with sets and lists instead of bits."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vmm.picmachine import AEOI, Machine

LEVEL_TRIGGERED: Final = {11}
LINES: Final = [n for n in range(16) if n != 2]


class Chip:
    """One 8259A: which inputs are up, requested, in service and masked, and their order of priority."""

    def __init__(self, *, auto_eoi: bool, level: set[int]) -> None:
        self.auto_eoi = auto_eoi
        self.level = level
        self.up: set[int] = set()
        self.requested: set[int] = set()
        self.serving: set[int] = set()
        self.masked: set[int] = set()
        self.order = list(range(8))
        self.special_mask = False
        self.rotate_on_auto_eoi = False

    def line(self, n: int, up: bool) -> None:
        if up and n not in self.up:
            self.requested.add(n)
        elif not up:
            self.requested.discard(n)
        (self.up.add if up else self.up.discard)(n)

    def holding(self) -> list[int]:
        """Inputs in service that hold others off, highest first."""
        return [n for n in self.order if n in self.serving and not (self.special_mask and n in self.masked)]

    def next(self) -> int | None:
        """Walks down the priorities; the first service met ends the walk."""
        for n in self.order:
            if n in self.holding():
                return None
            if n in self.requested and n not in self.masked:
                return n
        return None

    def take(self) -> int:
        n = self.next()
        assert n is not None
        if n not in self.level:
            self.requested.discard(n)
        if not self.auto_eoi:
            self.serving.add(n)
        elif self.rotate_on_auto_eoi:
            self.make_lowest(n)
        return n

    def make_lowest(self, n: int) -> None:
        while self.order[-1] != n:
            self.order.append(self.order.pop(0))

    def ocw2(self, rotate: bool, specific: bool, eoi: bool, n: int) -> None:
        if not specific and not eoi:
            self.rotate_on_auto_eoi = rotate
            return
        target = n if specific else next(iter(self.holding()), None)
        if target is None:
            return
        if eoi:
            self.serving.discard(target)
        if rotate:
            self.make_lowest(target)


class Pair:
    """Two chips; the slave's wish is a line of the master's, and INTA gives that line a new edge."""

    def __init__(self, *, auto_eoi: bool) -> None:
        self.master = Chip(auto_eoi=auto_eoi, level=set())
        self.slave = Chip(auto_eoi=auto_eoi, level={n - 8 for n in LEVEL_TRIGGERED})

    def settle(self) -> None:
        self.master.line(2, self.slave.next() is not None)

    def take(self) -> int:
        n = self.master.take()
        if n != 2:
            return n
        n = 8 + self.slave.take()
        self.master.line(2, False)
        self.settle()
        return n


_LINE = st.tuples(st.just("line"), st.sampled_from(LINES), st.booleans())
_MASK = st.tuples(st.just("mask"), st.booleans(), st.integers(0, 255) | st.just(0))
_OCW2 = st.tuples(st.just("ocw2"), st.booleans(), st.integers(0, 63))
_EOI = st.tuples(st.just("ocw2"), st.booleans(), st.just(0x08))
_SPECIAL_MASK = st.tuples(st.just("special mask"), st.booleans(), st.booleans())
_TAKE = st.tuples(st.just("take"), st.none(), st.none())
# Lines and INTA twice: they must not drown in commands that shut everything off.
_OPERATIONS = st.lists(
    st.one_of(_LINE, _LINE, _MASK, _EOI, _OCW2, _SPECIAL_MASK, _TAKE, _TAKE), min_size=20, max_size=80
)


def apply(pc: Machine, model: Pair, operation: tuple[str, int, int]) -> None:
    """Does one thing to both; an acknowledged interrupt has to be the same."""
    what, which, value = operation
    chip, command = (model.slave, 0xA0) if which else (model.master, 0x20)
    if what == "line":
        (model.slave if which >= 8 else model.master).line(which % 8, bool(value))
        pc.pic.set_line(which, value)
    elif what == "mask":
        chip.masked = {n for n in range(8) if value >> n & 1}
        pc.outb(value, command + 1)
    elif what == "ocw2":
        rotate, specific, eoi, n = bool(value & 32), bool(value & 16), bool(value & 8), value & 7
        chip.ocw2(rotate, specific, eoi, n)
        pc.outb(rotate << 7 | specific << 6 | eoi << 5 | n, command)
    elif what == "special mask":
        chip.special_mask = bool(value)
        pc.outb(0x68 if value else 0x48, command)
    elif pc.pic.output:
        assert pc.take() == model.take()
    model.settle()


def bits(master: set[int], slave: set[int]) -> int:
    """Sixteen register bits, IRQ n at bit n."""
    return sum(1 << n for n in master) | sum(1 << n + 8 for n in slave)


@given(st.booleans(), _OPERATIONS)
def test_pair_follows_the_reference(auto_eoi: bool, operations: list[tuple[str, int, int]]):
    """Output, vectors, IRR, ISR and IMR agree after any sequence of lines, masks, EOIs, rotations and INTAs."""
    icw4 = AEOI if auto_eoi else 0
    pc, model = Machine(master_icw4=icw4, slave_icw4=icw4), Pair(auto_eoi=auto_eoi)
    for operation in operations:
        apply(pc, model, operation)
        assert pc.pic.output == (model.master.next() is not None)
        assert pc.requested() == bits(model.master.requested, model.slave.requested)
        assert pc.in_service() == bits(model.master.serving, model.slave.serving)
        assert pc.inb(0x21) | pc.inb(0xA1) << 8 == bits(model.master.masked, model.slave.masked)


_RANK: Final = {irq: rank for rank, irq in enumerate((0, 1, *range(8, 16), 3, 4, 5, 6, 7))}


@given(st.lists(st.one_of(_LINE, _MASK, _EOI, _TAKE), min_size=20, max_size=80))
def test_never_masked_nor_of_lower_priority(operations: list[tuple[str, int, int]]):
    """With fixed priorities, what is delivered is up, unmasked, and above everything in service."""
    pc = Machine()
    up: set[int] = set()
    for what, which, value in operations:
        if what != "take":
            apply(pc, Pair(auto_eoi=False), (what, which, value))
            if what == "line":
                (up.add if value else up.discard)(which)
        elif pc.pic.output:
            mask = pc.inb(0x21) | pc.inb(0xA1) << 8
            serving = {irq for irq in LINES if pc.in_service() >> irq & 1}
            irq = pc.take()
            assert irq in up
            assert not mask >> irq & 1
            assert irq < 8 or not mask & 4
            assert all(_RANK[irq] < _RANK[other] for other in serving if (irq < 8) == (other < 8))
