"""Whatever a guest writes into its gate page, the vmm neither raises nor loops, and the next machine is sound."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import layout, ring
from machine.layout import GATE_BYTES
from machine.ring import KIND_HLT, KIND_IN, KIND_OUT, pack_key
from tests.kit.board import Board, RawGuest

pytestmark = pytest.mark.timeout(100, method="thread")  # the code under test owns SIGALRM

WORD = st.integers(0, (1 << 64) - 1)
GATE_WORDS = GATE_BYTES // 8
MODES = st.sampled_from([("2.0", False), ("ports", True), ("combining", False), ("optimised", True)])

keys = st.builds(
    pack_key,
    st.sampled_from([0, KIND_IN, KIND_OUT, KIND_HLT, 4, 255]),
    st.sampled_from([0, 1, 2, 3, 4, 8, 255]),
    st.one_of(st.sampled_from([0, 0x20, 0xA1, 0x4D0, 0xCF8, 0xCFC, 0xCFF, 0xFFFF]), st.integers(0x0FF0, 0x1030)),
)


@given(MODES, st.dictionaries(st.integers(0, GATE_WORDS - 1), WORD, max_size=64))
def test_garbage_in_the_gate_page(mode: tuple[str, bool], garbage: dict[int, int]):
    """64-bit garbage in any words, states included: the monitor comes to rest; what runs, runs in bounded time."""
    with Board(mode=mode[0], posted=mode[1]) as board:
        guest = RawGuest(board)
        guest.map_lance()
        for index, value in garbage.items():
            board.gate[index] = value
        os.eventfd_write(board.fds["kick"], 1)
        board.run_vmm()
        board.run_vmm()


@given(MODES, st.lists(st.tuples(st.one_of(keys, WORD), WORD, WORD), min_size=1, max_size=ring.SLOTS))
def test_posted_garbage_is_answered(mode: tuple[str, bool], requests: list[tuple[int, int, int]]):
    """Any keys and values: each slot up to the first HLT comes back complete, malformed ones refused and counted."""
    with Board(mode=mode[0], posted=mode[1]) as board:
        guest = RawGuest(board)
        guest.map_lance()
        first = guest.base
        for offset, (key, value, rap) in enumerate(requests):
            base = (first + offset * ring.SLOT_WORDS) % ring.RING_WORDS
            board.gate[base + ring.KEY], board.gate[base + ring.VALUE] = key, value
            board.gate[layout.RAP_STORE] = rap
            board.gate[base] = ring.POSTED
        os.eventfd_write(board.fds["kick"], 1)
        board.run_vmm()
        refused = 0
        for offset, (key, _value, _rap) in enumerate(requests):
            base = (first + offset * ring.SLOT_WORDS) % ring.RING_WORDS
            if ring.is_valid_key(key) and key & 0xFF == KIND_HLT:
                break
            assert board.gate[base] == ring.COMPLETE
            refused += not ring.is_valid_key(key)
        else:
            assert board.bad_requests() == refused


@given(MODES, st.integers(0, 31), st.sampled_from([1, 2, 4]), WORD, st.integers(0, 127))
def test_results_fit_their_width(mode: tuple[str, bool], offset: int, width: int, value: int, rap: int):
    """After any write to any Lance port, a read of any width returns no more bits than that."""
    with Board(mode=mode[0], posted=mode[1]) as board:
        guest = RawGuest(board)
        guest.map_lance()
        guest.write(0x1012, 2, rap)
        guest.write(0x1000 + offset, width, value)
        for port in range(0x1000, 0x1020):
            assert guest.read(port, width) < 1 << 8 * width
