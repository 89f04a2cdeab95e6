"""The trap ring's slots: keys, ownership, order and wrap-around, against a model of what owns which slot."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from machine import layout, ring
from machine.errors import LayoutError
from machine.ports import PIC_MASTER_DATA
from machine.ring import COMPLETE, FREE, KIND_HLT, KIND_IN, KIND_OUT, POSTED, SLOT_WORDS, SLOTS, pack_key
from tests.kit.board import Board

pytestmark = pytest.mark.timeout(100, method="thread")  # the code under test owns SIGALRM

IN_KEY = pack_key(KIND_IN, 1, PIC_MASTER_DATA)
OUT_KEY = pack_key(KIND_OUT, 1, PIC_MASTER_DATA)
HLT_KEY = pack_key(KIND_HLT, 0, 0)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFF))
def test_keys_round_trip(kind: int, width: int, port: int):
    """Kind, width and port come back out of a key as they went in."""
    assert ring.unpack_key(pack_key(kind, width, port)) == (kind, width, port)


@given(st.integers(0, (1 << 64) - 1))
def test_valid_keys_are_those_that_pack_makes(key: int):
    """A valid key is one with nothing beyond 32 bits, a known kind, and a width that its kind can have."""
    kind, width, port = ring.unpack_key(key)
    made = kind == KIND_HLT or (kind in (KIND_IN, KIND_OUT) and width in (1, 2, 4))
    assert ring.is_valid_key(key) == (made and pack_key(kind, width, port) == key)


@given(st.sampled_from([KIND_IN, KIND_OUT]), st.sampled_from([1, 2, 4]), st.integers(0, 0xFFFF))
def test_accesses_are_valid(kind: int, width: int, port: int):
    """Every access that a processor can make has a valid key."""
    assert ring.is_valid_key(pack_key(kind, width, port))


@given(st.integers(-100, 100))
def test_slots_lie_within_the_ring(index: int):
    """Any index names a slot, whole and aligned, modulo the ring."""
    words = memoryview(bytearray(8 * ring.RING_WORDS)).cast("Q")
    base = ring.slot_base(index, words)
    assert base % SLOT_WORDS == 0
    assert 0 <= base <= ring.RING_WORDS - SLOT_WORDS
    assert base // SLOT_WORDS == index % SLOTS


@pytest.mark.parametrize("page", [memoryview(bytearray(4096)), memoryview(bytearray(8 * 8)).cast("Q")])
def test_a_page_that_holds_no_ring(page: memoryview):
    """Words of another size, or too few of them, are refused."""
    with pytest.raises(LayoutError, match="64 words"):
        ring.slot_base(0, page)


def test_the_layout_keeps_writers_apart():
    """The ring is whole cache lines; what guest and vmm write beside it lies on lines of their own."""
    guest = {layout.TRAP_CANCEL, layout.RAP_STORE, layout.SLEEPS_GUEST}
    vmm = {layout.SLEEPS_VMM, layout.RAP_PORT}
    lines = [{word // 8 for word in words} for words in (guest, vmm, {layout.INTERRUPT_MAILBOX})]
    assert ring.RING_WORDS * 8 % 64 == 0
    assert all(line >= ring.RING_WORDS // 8 for group in lines for line in group)
    assert not lines[0] & lines[1]
    assert not lines[2] & (lines[0] | lines[1])


class TrapRing(RuleBasedStateMachine):
    """Posts as a guest may; the model says who owns each slot and what the next answer is."""

    @initialize(hlt=st.sampled_from(["host", "vmm"]), posted=st.booleans())
    def power_on(self, hlt: str, posted: bool):
        self.board = Board(hlt=hlt, posted=posted).__enter__()
        self.gate = self.board.gate
        self.owner = [FREE] * SLOTS
        self.next = 0  # slot that the guest posts next
        self.mask = 0xFF  # IMR of the master
        self.sequence = 0
        self.refused = 0
        self.halted: int | None = None  # slot of the HLT that is not over

    def teardown(self):
        if hasattr(self, "board"):
            self.board.__exit__()

    def _post(self, key: int, value: int = 0) -> int:
        """Stores a request in the next slot, which the guest takes back first where a HLT has left it."""
        slot = self.next
        if self.owner[slot] == COMPLETE:
            assert self.gate[slot * SLOT_WORDS] == COMPLETE
            self.owner[slot] = self.gate[slot * SLOT_WORDS] = FREE
        assert self.owner[slot] == FREE
        base = slot * SLOT_WORDS
        self.sequence += 1
        self.gate[base + ring.VALUE] = value
        self.gate[base + ring.SEQUENCE] = self.sequence
        self.gate[base + ring.KEY] = key
        self.gate[base + ring.STATE] = POSTED
        self.owner[slot] = POSTED
        self.next = (slot + 1) % SLOTS
        return slot

    def _run(self) -> None:
        """The vmm runs; it completes, in order, everything but a HLT that is the last."""
        latest = (self.next - 1) % SLOTS
        if self.halted not in (None, latest) and self.owner[latest] == POSTED:
            self.owner[self.halted] = COMPLETE
            self.halted = None
        self.board.bells["vmm"].ring()
        if self.halted is None:
            self.owner = [COMPLETE if state == POSTED else state for state in self.owner]

    def _take(self, slot: int) -> tuple[int, int]:
        base = slot * SLOT_WORDS
        assert self.gate[base] == COMPLETE
        answer = self.gate[base + ring.RESULT], self.gate[base + ring.ERROR]
        self.gate[base + ring.ERROR] = ring.OK
        self.owner[slot] = self.gate[base] = FREE
        return answer

    def _trap(self, key: int, value: int = 0) -> tuple[int, int]:
        slot = self._post(key, value)
        self._run()
        return self._take(slot)

    @rule(value=st.integers(0, (1 << 64) - 1))
    def write(self, value: int):
        """OUT to the interrupt mask register; only its width counts."""
        _, error = self._trap(OUT_KEY, value)
        assert error == ring.OK
        self.mask = value & 0xFF

    @rule()
    def read(self):
        """IN reads what was written last."""
        assert self._trap(IN_KEY) == (self.mask, ring.OK)

    @rule(key=st.integers(0, (1 << 64) - 1).filter(lambda key: not ring.is_valid_key(key)))
    def malformed(self, key: int):
        """A malformed key is refused, and the ring goes on."""
        assert self._trap(key)[1] == ring.REFUSED
        self.refused += 1

    @precondition(lambda self: self.halted is None)
    @rule()
    def halt(self):
        """HLT stays with the vmm; the next access, the guest going on by itself, ends it."""
        self.halted = self._post(HLT_KEY)
        self._run()

    @precondition(lambda self: self.halted is not None)
    @rule()
    def end_halt_by_interrupt(self):
        """A vector in the mailbox ends HLT without another request, and the guest takes its slot back."""
        self.gate[layout.INTERRUPT_MAILBOX] = 0x2B + 1
        slot, self.halted = self.halted, None
        os.eventfd_write(self.board.fds["kick"], 1)
        self._run()
        assert slot is not None
        self._take(slot)
        self.gate[layout.INTERRUPT_MAILBOX] = 0

    @invariant()
    def owners_agree(self):
        """Every state word says what the model says, and all refusals were counted."""
        if not hasattr(self, "board"):
            return
        assert [self.gate[slot * SLOT_WORDS] for slot in range(SLOTS)] == self.owner
        assert self.board.bad_requests() == self.refused
        assert sum(state == POSTED for state in self.owner) == (self.halted is not None)


TestTrapRing = TrapRing.TestCase
