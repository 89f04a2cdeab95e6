"""The paper's optimisations one by one: which accesses switch worlds, which packets wait, who asks the kernel."""

from __future__ import annotations

import os
import signal
import time

import pytest

from machine import layout, world
from machine.config import MODES
from machine.lance.state import CSR
from machine.lance.state import RAP as LANCE_RAP
from machine.launch import SETTINGS_SIGNAL
from tests.kit.board import MAC, RAP, RDP, Board
from tests.kit.lanceguest import BDP, BUFFER, RESET, LanceGuest, busy, started
from vmapp.lance.engine import LanceEngine

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM

TDMD = 0x0008
BROADCAST = b"\xff" * 6 + MAC + bytes(range(60))


# -- ports in the vmm (paper, section 3.3.1) --------------------------------------------------------------


@pytest.mark.parametrize(("mode", "switches"), [("2.0", 5), ("ports", 1), ("combining", 1), ("optimised", 1)])
def test_what_a_packet_switches_for(mode: str, switches: int):
    """Of the five RDP accesses of a packet, all switch in 2.0, and only the one that sends does later."""
    with started(mode=mode) as (board, guest):
        guest.send(0)
        guest.read(RDP, 2)
        guest.write_csr(0, 0x0200)  # TINT
        guest.read(RDP, 2)
        guest.write_csr(0, 0x7940)
        assert guest.sent() == [0]
        assert len(board.switches) == switches


def everything(guest: LanceGuest) -> list[int]:
    """What every register reads, the counters of time apart; then RESET, and CSR0 after it."""
    values = [guest.read(0x1000 + offset, width) for offset in range(16) for width in (1, 2, 4)]
    for index in range(128):
        guest.set_rap(index)
        values += [guest.read(RDP, 2), guest.read(BDP, 2)]
    guest.set_rap(4)
    values.append(guest.read(RESET, 2))
    values.append(guest.read(RDP, 2))
    return values


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "2.0"])
def test_every_mode_reads_the_same(mode: str):
    """Where an access is carried out does not show in any register."""
    with started(mode="2.0") as (_, guest):
        expected = everything(guest)
    with started(mode=mode) as (_, guest):
        assert everything(guest) == expected
    assert expected[-1] == 0x0004, "RESET has set RAP to 0"


def test_reset_sets_the_rap_store():
    """A read of RESET sets RAP to 0, also where RAP is plain memory."""
    with started(mode="ports") as (board, guest):
        guest.set_rap(88)
        guest.read(RESET, 2)
        assert board.gate[layout.RAP_STORE] == 0


def test_32_bit_ports_take_rap_along():
    """After the switch to DWIO, RAP is plain memory at its new port, and its old port is not."""
    with started(mode="ports") as (board, guest):
        guest.write(RDP, 4, 0)
        assert board.gate[layout.RAP_PORT] == 4 << 16 | 0x1014
        board.gate[layout.RAP_STORE] = 88
        assert guest.read(RDP, 4) & 0xFFFF == 0x1003
        assert board.lance[LANCE_RAP] == 88


@pytest.mark.parametrize("mode", ["ports", "optimised"])
def test_a_hostile_rap_store(mode: str):
    """64 bits of garbage in the RAP store mean their lowest seven."""
    with started(mode=mode) as (board, guest):
        board.gate[layout.RAP_STORE] = (1 << 64) - 128 + 88
        assert guest.read(RDP, 2) == 0x1003


def change(board: Board, **settings: object) -> None:
    """``worldswitch set``, taken over by a vmm whose guest runs."""
    board.controls["vmm"].send({"settings": board.settings.as_map() | settings})
    os.kill(os.getpid(), SETTINGS_SIGNAL)
    board.run_vmm()


def test_rap_traps_again_when_the_optimisation_is_switched_off():
    """Live settings: what was in the RAP store is in RAP."""
    with started(mode="ports") as (board, guest):
        guest.set_rap(88)
        change(board, mode="2.0")
        assert board.gate[layout.RAP_PORT] == 0
        board.switches.clear()
        assert guest.read(RAP, 2) == 88
        assert guest.read(RDP, 2) == 0x1003
        assert board.switches == [world.REASON_IO]


@pytest.mark.parametrize("modes", [("2.0",), ("combining", "2.0"), ("2.0", "ports"), ("2.0", "2.0", "ports")])
@pytest.mark.parametrize("changes_before_the_store", [0, 1, 2])
def test_a_rap_store_that_crosses_the_change(modes: tuple[str, ...], changes_before_the_store: int):
    """A guest that has found RAP to be memory may store it after the mode has changed; the next access knows it."""
    with started(mode="ports") as (board, guest):
        guest.set_rap(4)
        for mode in modes[:changes_before_the_store]:
            change(board, mode=mode)
        board.gate[layout.RAP_STORE] = 88
        for mode in modes[changes_before_the_store:]:
            change(board, mode=mode)
        assert guest.read(RDP, 2) == 0x1003
        guest.set_rap(89)
        assert guest.read(RDP, 2) == 0x0262


def test_a_rap_trap_that_crosses_the_change():
    """A guest that has found RAP to be a port traps though RAP is memory by then: it is both."""
    with started(mode="2.0") as (board, guest):
        guest.set_rap(4)
        change(board, mode="ports")
        guest.write(RAP, 2, 88)
        assert guest.read(RDP, 2) == 0x1003
        assert board.gate[layout.RAP_STORE] == 88


@pytest.mark.parametrize("settings", [{"combine_cap": 5}, {"mode": "optimised"}])
def test_other_settings_leave_the_rap_store_alone(settings: dict[str, object]):
    """Where RAP stays memory, the vmm writes nothing that would undo what the guest stores at that moment."""
    with started(mode="ports") as (board, guest):
        board.gate[layout.RAP_STORE] = as_the_guest_left_it = 1 << 60 | 88
        change(board, **settings)
        assert board.gate[layout.RAP_STORE] == as_the_guest_left_it
        assert guest.read(RDP, 2) == 0x1003


# -- send combining (section 3.3.2) ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"mode": "combining"}, {"mode": "2.0", "combining": True}])
def test_packets_wait_up_to_the_cap(settings: dict[str, object]):
    """With a cap of 3 (the paper's), the third packet forces the switch, and all three are sent in order."""
    with busy(combine_cap=3, **settings) as (board, guest):
        for number in range(3):
            assert guest.sent() == []
            guest.send(number)
        assert guest.sent() == [0, 1, 2]
        assert board.counter("vmm", "sends_combined") == 2
        assert len(board.switches) == 1


def test_any_switch_sends_what_waits():
    """Without ``ports``, an access that switches takes the packet along, and the count of waiting ones starts anew."""
    with busy(mode="2.0", combining=True) as (board, guest):
        for number in (0, 1):
            guest.send(number)
            assert guest.sent() == []
            guest.read(RDP, 2)
            assert guest.sent() == [number]
        assert board.counter("vmm", "sends_combined") == 2


@pytest.mark.parametrize("settings", [{"mode": "combining"}, {"mode": "2.0", "combining": True}])
def test_a_packet_that_waits_keeps_no_interrupt_waiting(settings: dict[str, object]):
    """INEA and TDMD in one write: the cause that had been disabled interrupts at once, though the packet waits."""
    with busy(**settings) as (board, guest):
        guest.open_interrupts()
        guest.write_csr(0, 0x0000)
        board.wire.send(BROADCAST)
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
        assert board.gate[layout.INTERRUPT_MAILBOX] == 0
        guest.send(0)
        assert guest.sent() == []
        assert guest.take_interrupt() == 0x2B


def test_the_timer_sends_what_waits():
    """A packet waits for a host tick at most."""
    with busy(mode="combining") as (board, guest):
        guest.send(0)
        assert guest.sent() == []
        assert board.lance[CSR] & TDMD
        os.kill(os.getpid(), signal.SIGALRM)
        board.run_vmm()
        assert guest.sent() == [0]
        assert board.switches == [world.REASON_TICK]


@pytest.mark.parametrize("hlt", ["host", "vmm"])
def test_an_idle_guest_sends_what_waits(hlt: str):
    """HLT leaves no packet in the ring: its switch sends, or makes one that does."""
    with busy(mode="combining", hlt=hlt) as (board, guest):
        guest.send(0)
        assert guest.sent() == []
        os.eventfd_write(board.fds["kick"], 1)  # vmapp's select() ends at once
        guest.halt()
        assert guest.sent() == [0]


@pytest.mark.parametrize("mode", MODES)
def test_a_suspended_chip_holds_nobody_up(mode: str):
    """CSR5.SPND with TDMD set: the switch ends though the frame cannot be sent; it is sent when the chip goes on."""
    with started(mode=mode) as (board, guest):
        guest.write_csr(5, 0x0001)
        guest.send(0)
        os.kill(os.getpid(), signal.SIGALRM)
        board.run_vmm()
        assert guest.sent() == []
        guest.write_csr(5, 0x0000)
        os.kill(os.getpid(), signal.SIGALRM)
        board.run_vmm()
        assert guest.sent() == [0]


def test_below_the_threshold_nothing_waits():
    """At a switch rate below the threshold each packet switches at once."""
    with started(mode="combining", combine_threshold=1_000_000) as (board, guest):
        for number in range(4):
            guest.send(number)
            assert guest.sent() == [number]
        assert board.switches == [world.REASON_SEND] * 4


def test_a_cap_of_one_is_no_combining():
    """A packet that would be the first to wait forces a switch."""
    with busy(mode="combining", combine_cap=1) as (_, guest):
        guest.send(0)
        assert guest.sent() == [0]


# -- notification by shared memory (section 3.3.3) ----------------------------------------------------------


def test_notification_saves_the_system_call():
    """No select() while nothing waits; the word that SIGIO sets has vmapp take the frame, and is reset."""
    with started(mode="optimised") as (board, guest):
        board.world[world.FRAMES_WAIT] = 0
        selects = board.counter("vmapp", "selects")
        guest.send(0)
        assert guest.sent() == [0]
        board.wire.send(BROADCAST)
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
        assert bytes(board.ram[BUFFER : BUFFER + len(BROADCAST)]) == BROADCAST
        assert board.world[world.FRAMES_WAIT] == 0
        assert board.counter("vmapp", "selects") == selects


def test_a_frame_soon_after_a_switch_waits_for_the_next_one():
    """Moderation: SIGIO within the interval forces no switch; the next one, here for a packet sent, takes the frame."""
    with started(mode="optimised", moderation_us=10_000) as (board, guest):
        guest.send(0)
        before = board.counter("vmm", "switches_for_irq")
        board.wire.send(BROADCAST)
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
        assert board.counter("vmm", "switches_for_irq") == before
        guest.send(1)
        assert bytes(board.ram[BUFFER : BUFFER + len(BROADCAST)]) == BROADCAST


def test_without_notification_each_return_selects():
    """Section 2.3: on each return to the host world vmapp asks the kernel for frames."""
    with started(mode="2.0") as (board, guest):
        selects = board.counter("vmapp", "selects")
        for _ in range(5):
            guest.read(RDP, 2)
        assert board.counter("vmapp", "selects") == selects + 5
        board.wire.send(BROADCAST)
        guest.read(RDP, 2)
        assert board.counter("vmapp", "rx_frames") == 1


def test_frames_that_find_no_rmd_wait_and_are_missed_at_last():
    """The chip's FIFO: without a free RMD a frame stays in the TAP for a while, and is then counted as missed."""
    with started(mode="2.0") as (board, guest):
        for _ in range(2):
            board.wire.send(BROADCAST)
        guest.read(RDP, 2)
        guest.read(RDP, 2)
        assert board.counter("vmapp", "rx_frames") == 1
        assert board.counter("vmapp", "rx_missed") == 0
        deadline = time.monotonic() + 5
        while not board.counter("vmapp", "rx_missed"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
            guest.read(RDP, 2)
        assert board.counter("vmapp", "rx_missed") == 1
        assert board.lance[CSR] & 0x1000, "MISS"


def test_frames_that_a_full_ring_leaves_behind_are_known_to_wait():
    """Two frames at once and one RMD: the next switch after the guest has lent another takes the second frame."""
    with started(mode="optimised") as (board, guest):
        for _ in range(2):
            board.wire.send(BROADCAST)
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
        assert board.counter("vmapp", "rx_frames") == 1
        guest.lend()
        guest.send(0)
        assert board.counter("vmapp", "rx_frames") == 2
        assert board.world[world.FRAMES_WAIT] == 0


def test_settings_that_come_with_a_frame_do_not_hide_it():
    """SIGIO, the timer and a change of settings before the monitor looks: the frame is taken, and the tick counts."""
    with started(mode="optimised") as (board, _):
        board.wire.send(BROADCAST)
        board.controls["vmm"].send({"cable": True})
        for number in (signal.SIGIO, signal.SIGALRM, SETTINGS_SIGNAL):
            os.kill(os.getpid(), number)
        board.run_vmm()
        assert board.counter("vmapp", "rx_frames") == 1
        assert board.counter("vmm", "switches_for_tick") == 1


def test_a_rmd_lent_while_vmapp_gives_up_is_seen(monkeypatch: pytest.MonkeyPatch):
    """A RMD lent just after vmapp has found none: the frame that waits in the TAP is still known to wait."""
    with started(mode="optimised") as (board, guest):
        receive = LanceEngine.receive

        def receive_then_lend(engine: LanceEngine) -> int:
            taken = receive(engine)
            if not taken:
                guest.lend()
            return taken

        for _ in range(2):
            board.wire.send(BROADCAST)
            os.kill(os.getpid(), signal.SIGIO)
            board.run_vmm()
        assert board.counter("vmapp", "rx_frames") == 1
        monkeypatch.setattr(LanceEngine, "receive", receive_then_lend)
        board.world[world.FRAMES_WAIT] = 1
        guest.send(0)
        assert board.counter("vmapp", "rx_frames") == 1
        assert board.world[world.FRAMES_WAIT] == board.world[world.FRAMES_HELD] == 1
        guest.send(1)
        assert board.counter("vmapp", "rx_frames") == 2
