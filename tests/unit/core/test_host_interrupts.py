"""Frames that wait until a world switch may be forced for them, as the vmm of a foreign guest reckons."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from time import monotonic_ns

import pytest

from machine import world
from machine.launch import SETTINGS_SIGNAL
from tests.kit.board import Board
from vmm.hostirq import HostInterrupts

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM

AN_HOUR_US = 3_600_000_000


@pytest.fixture
def host() -> Iterator[tuple[HostInterrupts, memoryview]]:
    """With a frame that came just after a world switch; and the world-switch record."""
    with Board() as board:
        host = HostInterrupts(board.station("vmm"))
        host.set_moderation(AN_HOUR_US)
        board.world[world.LEFT_NS] = monotonic_ns()
        os.kill(os.getpid(), signal.SIGIO)
        yield host, board.world


def test_a_frame_soon_after_a_switch_is_due_later(host: tuple[HostInterrupts, memoryview]):
    """It waits for no more than the moderation interval, and forces nothing before."""
    interrupts, _ = host
    assert not interrupts.pending
    due = interrupts.due_in()
    assert due is not None
    assert 0 < due <= AN_HOUR_US / 1e6


def test_the_next_switch_has_seen_to_it(host: tuple[HostInterrupts, memoryview]):
    """In each switch vmapp looks at the TAP: nothing is due after one."""
    interrupts, record = host
    record[world.LEFT_NS] = monotonic_ns()
    assert interrupts.due_in() is None


def test_a_switch_that_passes_it_over_has_not(host: tuple[HostInterrupts, memoryview]):
    """After one that only changes the memory map, the frame is due as before."""
    interrupts, record = host
    record[world.LEFT_NS] = monotonic_ns()
    interrupts.passed_over()
    assert interrupts.due_in() is not None


def test_vmapp_is_interrupted_if_it_stays_away_for_a_tick():
    """Two ticks in one stay in the host world: the second one ends whatever vmapp waits in; the first never does."""
    with Board() as board:
        host = HostInterrupts(board.station("vmm"))
        board.world[world.LEFT_NS] = 1
        host.away = True
        os.kill(os.getpid(), signal.SIGALRM)
        assert board.interrupted == []
        os.kill(os.getpid(), signal.SIGALRM)
        assert board.interrupted == ["vmapp"]
        board.world[world.LEFT_NS] = 2  # it has been back meanwhile
        os.kill(os.getpid(), signal.SIGALRM)
        assert board.interrupted == ["vmapp"]
        host.away = False
        os.kill(os.getpid(), signal.SIGALRM)
        assert board.interrupted == ["vmapp"]


def test_vmapp_is_interrupted_for_settings():
    """They wait for the VMM world: a vmapp that is in the host world is told to look up, with each signal."""
    with Board() as board:
        HostInterrupts(board.station("vmm"))
        os.kill(os.getpid(), SETTINGS_SIGNAL)
        assert board.interrupted == []
        board.world[world.WORLD] = world.HOST_WORLD
        os.kill(os.getpid(), SETTINGS_SIGNAL)
        os.kill(os.getpid(), SETTINGS_SIGNAL)
        assert board.interrupted == ["vmapp"] * 2


@pytest.mark.parametrize("hlt", ["host", "vmm"])
def test_the_timer_runs_wherever_the_guest_halts(hlt: str):
    """A guest that has not halted yet is a running one: ticks come from the start, in either place of HLT."""
    with Board(hlt=hlt) as board:
        board.run_vmm()
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
