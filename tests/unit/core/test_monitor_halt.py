"""HLT, host interrupts, and interrupts for a guest that runs: what ends idleness, and what is signalled."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from time import monotonic_ns

import pytest

from machine import layout, ring, world
from machine.lance.state import IRQ_LEVEL
from machine.launch import SETTINGS_SIGNAL
from machine.ports import PIC_MASTER_DATA
from machine.ring import KIND_HLT, KIND_IN, pack_key
from tests.kit.board import MAC, RDP, Board, RawGuest, readable
from tests.kit.lanceguest import BUFFER, started

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM

READ_MASK = pack_key(KIND_IN, 1, PIC_MASTER_DATA)


@pytest.fixture(params=["host", "vmm"])
def board(request: pytest.FixtureRequest):
    """Both kinds of HLT: blocked in vmapp's select(), halted in the vmm."""
    with Board(hlt=request.param) as board:
        yield board


@pytest.fixture
def host_board():
    """HLT blocks in vmapp's select()."""
    with Board() as board:
        yield board


@pytest.fixture
def guest(board: Board) -> RawGuest:
    """A guest with Lance and 8259 pair ready."""
    return booted(board)


def booted(board: Board) -> RawGuest:
    """A guest that has mapped the Lance and opened IRQ 11."""
    guest = RawGuest(board)
    guest.map_lance()
    guest.open_interrupts()
    board.switches.clear()
    return guest


def from_vmapp(board: Board, action: Callable[[], object]) -> Callable[[], None]:
    """What happens while vmapp has the processor: ``action``, and it gives the processor back."""

    def happen() -> None:
        record = board.world
        assert record[world.WORLD] == world.HOST_WORLD
        record[world.ENTERED_NS] = record[world.LEFT_NS] = monotonic_ns()
        action()
        record[world.WORLD] = world.VMM_WORLD

    return happen


def test_idle_guest_sleeps(board: Board, guest: RawGuest):
    """With nothing due, HLT is not complete and nobody is woken."""
    base = guest.halt()
    assert board.gate[base] == ring.POSTED
    assert not readable(board.fds["wake"])


def test_a_due_interrupt_ends_hlt_at_once(board: Board, guest: RawGuest):
    """A vector that waits in the mailbox when HLT is met completes it without a switch."""
    guest.raise_line()
    board.switches.clear()
    base = guest.halt()
    guest.take(base)
    assert guest.take_interrupt() == 0x2B
    assert readable(board.fds["wake"])
    assert not board.switches


def test_an_interrupt_from_the_host_world_ends_hlt(host_board: Board):
    """INTA# that rises while vmapp sits in select() is delivered, the guest woken through its wake descriptor."""
    guest = booted(host_board)
    guest.write_csr(0, 0x0040)
    board = host_board

    def line_up() -> None:
        board.lance[IRQ_LEVEL] = 1

    board.bells["vmm"].events.append(from_vmapp(board, line_up))
    base = guest.halt()
    guest.take(base)
    assert guest.take_interrupt() == 0x2B
    assert readable(board.fds["wake"])
    assert board.counter("vmm", "irqs_raised") == 1
    assert board.counter("vmm", "switches_for_hlt") == 1
    assert board.irq_signals == 0


def test_cancel_ends_hlt(host_board: Board):
    """A guest that says it went on by itself is not waited for, when the vmm comes to look."""
    guest = booted(host_board)
    board = host_board

    def cancel() -> None:
        board.gate[layout.TRAP_CANCEL] = guest.sequence

    board.bells["vmm"].events.append(from_vmapp(board, cancel))
    base = guest.halt()
    guest.take(base)
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0


def test_an_old_cancel_does_not_end_a_later_hlt(board: Board, guest: RawGuest):
    """The cancel word names one HLT by its sequence number."""
    board.gate[layout.TRAP_CANCEL] = guest.sequence
    base = guest.halt()
    assert board.gate[base] == ring.POSTED


def test_a_following_trap_ends_hlt(board: Board, guest: RawGuest):
    """The guest's own stack had a frame: the next slot is posted, vmapp is kicked out of select(), both complete."""
    posted: list[int] = []
    board.bells["vmm"].events.append(lambda: posted.append(guest.post(READ_MASK)))
    base = guest.halt()
    guest.take(base)
    assert guest.take(posted[0]) == 0xFB
    assert not readable(board.fds["kick"])
    assert not readable(board.fds["wake"]), "the guest does not sleep there: it waits for its trap"


def test_a_frame_for_an_idle_guest():
    """End to end but for the guest's driver: a frame on the wire ends HLT with IRQ 11, and is in guest memory."""
    with started() as (board, guest):
        guest.open_interrupts()
        frame = MAC + bytes(range(80))
        board.wire.send(frame)
        guest.take(guest.halt())
        assert guest.take_interrupt() == 0x2B
        assert bytes(board.ram[BUFFER : BUFFER + len(frame)]) == frame
        assert board.counter("vmapp", "rx_frames") == 1


def test_a_line_that_the_guest_has_masked_ends_no_hlt():
    """INTA# up, but masked in the 8259 pair: vmapp sleeps all the same, instead of returning again and again."""
    with started() as (board, guest):
        guest.raise_line()
        board.switches.clear()
        os.eventfd_write(board.fds["kick"], 1)
        base = guest.halt()
        assert board.gate[base] == ring.POSTED
        assert board.switches == [world.REASON_HLT] * 2
        assert not readable(board.fds["kick"])


def test_nic_interrupt_while_the_guest_runs(board: Board, guest: RawGuest):
    """SIGIO in the VMM world: the vmm is poked and hands over to the host world when it gets the processor."""
    pokes = board.bells["vmm"].pokes
    os.kill(os.getpid(), signal.SIGIO)
    assert board.bells["vmm"].pokes == pokes + 1
    board.run_vmm()
    assert board.switches == [world.REASON_IRQ]
    assert board.counter("vmm", "host_irqs") == 1
    assert board.counter("vmm", "switches_for_irq") == 1


def test_nic_interrupt_in_the_host_world_is_vmapps(board: Board, guest: RawGuest):
    """SIGIO while vmapp has the processor costs no switch: it looks at its TAP anyway."""
    board.world[world.WORLD] = world.HOST_WORLD
    os.kill(os.getpid(), signal.SIGIO)
    board.world[world.WORLD] = world.VMM_WORLD
    board.run_vmm()
    assert not board.switches
    assert board.counter("vmm", "host_irqs") == 0
    assert board.world[world.FRAMES_WAIT] == 1


def test_timer_switches_to_the_host(board: Board, guest: RawGuest):
    """SIGALRM: the host's timer takes the processor from a busy guest."""
    os.kill(os.getpid(), signal.SIGALRM)
    board.run_vmm()
    assert board.switches == [world.REASON_TICK]
    assert board.counter("vmm", "switches_for_tick") == 1


def test_interrupt_for_a_running_guest_is_signalled(board: Board, guest: RawGuest):
    """INTA# that rises in the host world after a host interrupt: mailbox and exactly one signal."""
    guest.write_csr(0, 0x0040)

    def line_up() -> None:
        board.lance[IRQ_LEVEL] = 1

    board.bells["vmapp"].on_ring = from_vmapp(board, line_up)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGIO)
        board.run_vmm()
    assert guest.take_interrupt() == 0x2B
    assert board.irq_signals == 1
    assert board.counter("vmm", "irqs_raised") == 1


def test_settings_change_between_two_traps(board: Board, guest: RawGuest):
    """A control message and its signal: the vmm takes the new mode over, answers, and the next access shows it."""
    guest.read(RDP, 2)
    record = board.settings.as_map() | {"mode": "ports"}
    board.controls["vmm"].send({"settings": record})
    os.kill(os.getpid(), SETTINGS_SIGNAL)
    board.run_vmm()
    assert board.controls["vmm"].receive(1) == {"event": "set"}
    board.switches.clear()
    guest.read(RDP, 2)
    assert not board.switches


def test_bad_settings_are_refused(board: Board, guest: RawGuest):
    """A record that is no settings record is answered in one line, and changes nothing."""
    for record in (board.settings.as_map() | {"tick_ms": 0}, {"cpus": [0], "colour": "red"}, {}):
        board.controls["vmm"].send({"settings": record})
        os.kill(os.getpid(), SETTINGS_SIGNAL)
        board.run_vmm()
        answer = board.controls["vmm"].receive(1)
        assert answer is not None
        assert answer["event"] == "set"
        assert "\n" not in answer["refused"]
    assert guest.read(PIC_MASTER_DATA, 1) == 0xFB


def test_stray_settings_signal(board: Board, guest: RawGuest):
    """The signal without a message is no event."""
    os.kill(os.getpid(), SETTINGS_SIGNAL)
    board.run_vmm()
    assert guest.read(PIC_MASTER_DATA, 1) == 0xFB


def test_hlt_key_fields_do_not_matter(board: Board, guest: RawGuest):
    """Width and port of a HLT mean nothing: it halts all the same."""
    base = guest.post(pack_key(KIND_HLT, 7, 0x1234))
    board.run_vmm()
    assert board.gate[base] == ring.POSTED
    assert board.bad_requests() == 0
