"""Frames that come while the guest has its chip suspended (CSR5.SPND): they wait, and are received afterwards."""

from __future__ import annotations

import os
import signal
from time import monotonic_ns

import pytest

from machine import world
from tests.kit.board import MAC, RDP
from tests.kit.lanceguest import BUFFER, started

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM

FRAME = MAC + bytes.fromhex("020000000001") + b"\x08\x00" + bytes(range(50))


@pytest.mark.parametrize("mode", ["2.0", "ports", "combining", "optimised"])
def test_a_frame_in_that_moment_is_not_lost(mode: str):
    """In each mode a frame that is looked at while SPND is set stays in the TAP, and arrives when it goes."""
    with started(mode=mode) as (board, guest):
        guest.write_csr(5, 0x0001)
        board.wire.send(FRAME)
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
        guest.read(RDP, 2)
        assert board.counter("vmapp", "rx_frames") == 0
        assert board.counter("vmapp", "tap_reads") == 0
        guest.write_csr(5, 0x0000)
        guest.halt()
        board.run_vmm()
        assert board.counter("vmapp", "rx_frames") == 1
        assert bytes(board.ram[BUFFER : BUFFER + len(FRAME)]) == FRAME


def test_a_chip_that_stays_suspended_loses_them_in_the_end(monkeypatch: pytest.MonkeyPatch):
    """A driver that never resumes has a chip that hears nothing: after 200 ms its frames are dropped, not kept."""
    with started() as (board, guest):
        ahead = [0]
        monkeypatch.setattr("vmapp.hostworld.monotonic_ns", lambda: monotonic_ns() + ahead[0])
        guest.write_csr(5, 0x0001)
        board.wire.send(FRAME)
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
        assert (board.counter("vmapp", "tap_reads"), board.world[world.FRAMES_HELD]) == (0, 1)
        ahead[0] = 201_000_000
        guest.read(RDP, 2)
        assert (board.counter("vmapp", "tap_reads"), board.world[world.FRAMES_HELD]) == (1, 0)
        assert board.counter("vmapp", "rx_frames") == 0
