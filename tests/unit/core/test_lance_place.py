"""The Lance's ports wherever the guest puts BAR 0: on other devices, beyond the end, back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import layout
from machine.config import MODES
from machine.ports import PIC_MASTER_DATA
from tests.kit.board import RDP, Board, RawGuest

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM

STOPPED = 0x0004  # CSR0 after a reset


@pytest.fixture(params=MODES)
def board(request: pytest.FixtureRequest):
    """Each of the paper's modes."""
    with Board(mode=request.param) as board:
        yield board


@pytest.fixture
def guest(board: Board) -> RawGuest:
    """A guest that has not mapped anything."""
    return RawGuest(board)


def test_nothing_decodes_until_the_command_register_says_so(guest: RawGuest):
    """BAR 0 alone is not enough: with I/O decoding off its ports read all ones."""
    guest.map_lance(command=0)
    assert guest.read(RDP, 2) == 0xFFFF
    guest.map_lance(command=1)
    assert guest.read(RDP, 2) == STOPPED


def test_on_top_of_the_pic_nothing_answers(board: Board, guest: RawGuest):
    """The fixed device decodes first; the Lance decodes nothing until it is moved away, and is as it was."""
    guest.map_lance()
    guest.write(PIC_MASTER_DATA, 1, 0xA5)
    guest.map_lance(0x0020)
    assert board.gate[layout.RAP_PORT] == 0
    assert guest.read(PIC_MASTER_DATA, 1) == 0xA5
    assert guest.read(RDP, 2) == 0xFFFF
    assert guest.read(0x0030, 2) == 0xFFFF
    guest.map_lance()
    assert guest.read(RDP, 2) == STOPPED
    assert guest.read(PIC_MASTER_DATA, 1) == 0xA5


def test_moved_away_it_works_there_and_not_here(board: Board, guest: RawGuest):
    """The 32 ports follow BAR 0; where they were reads all ones."""
    guest.map_lance()
    assert guest.read(RDP, 2) == STOPPED
    guest.map_lance(0xFFE0)
    assert guest.read(RDP, 2) == 0xFFFF
    assert guest.read(0xFFF0, 2) == STOPPED
    assert board.gate[layout.RAP_PORT] in (0, 2 << 16 | 0xFFF2)


@given(
    mode=st.sampled_from(sorted(MODES)),
    moves=st.lists(st.tuples(st.integers(0, (1 << 32) - 1) | st.integers(0, 0x1100), st.integers(0, 7)), max_size=8),
)
def test_bar0_anywhere(mode: str, moves: list[tuple[int, int]]):
    """Any addresses and command words: nothing raises, the 8259 pair stays where it is, the Lance comes back."""
    with Board(mode=mode) as board:
        guest = RawGuest(board)
        guest.write(PIC_MASTER_DATA, 1, 0x5A)
        for base, command in moves:
            guest.map_lance(base, command)
            assert guest.read(PIC_MASTER_DATA, 1) == 0x5A
            guest.read(RDP, 2)
        guest.map_lance()
        assert guest.read(RDP, 2) == STOPPED
