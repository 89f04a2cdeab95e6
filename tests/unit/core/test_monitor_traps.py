"""The monitor, word by word: accesses handled in the vmm, switched accesses, posted ones, refusals."""

from __future__ import annotations

import pytest

from machine import layout, ring, world
from machine.lance.state import IRQ_LEVEL
from machine.ports import PIC_MASTER_DATA
from machine.ring import KIND_HLT, KIND_IN, KIND_OUT, pack_key
from tests.kit.board import RAP, RDP, Board, RawGuest

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM


@pytest.fixture
def board():
    """Mode 2.0, nothing posted ahead."""
    with Board() as board:
        yield board


@pytest.fixture
def guest(board: Board) -> RawGuest:
    """A guest that has mapped the Lance."""
    guest = RawGuest(board)
    guest.map_lance()
    board.switches.clear()
    return guest


def test_vmm_keeps_the_interrupt_controller(board: Board, guest: RawGuest):
    """An 8259 access is complete, with its value, without a world switch; the guest is rung once for each."""
    before = board.bells["guest"].rings
    guest.write(PIC_MASTER_DATA, 1, 0x5A)
    assert guest.read(PIC_MASTER_DATA, 1) == 0x5A
    assert board.bells["guest"].rings == before + 2
    assert not board.switches


def test_rap_stays_in_the_vmm_and_rdp_switches(board: Board, guest: RawGuest):
    """Version 2.0 (paper, 2.3): RAP is the vmm's, RDP costs a world switch and reads what vmapp reads."""
    guest.write(RAP, 2, 88)
    assert guest.read(RAP, 2) == 88
    assert not board.switches
    assert guest.read(RDP, 2) == 0x1003  # CSR88: low half of the chip's ID
    assert board.switches == [world.REASON_IO]
    assert board.counter("vmm", "switches_for_io") == 1


def test_vmapp_resumes_the_guest_itself(board: Board, guest: RawGuest):
    """While INTA# is as it was, vmapp completes the slot and wakes the guest, and the vmm does not."""
    rings = board.bells["guest"].rings
    seen = []
    board.bells["guest"].on_ring = lambda: seen.append(board.world[world.RESUMED])
    guest.read(RDP, 2)
    assert board.bells["guest"].rings == rings + 1
    assert seen == [1]
    assert board.world[world.RESUMED] == 0
    assert board.port(RDP)[0] == 1


def test_a_changed_line_goes_through_the_vmm(board: Board, guest: RawGuest):
    """An access that raises INTA# comes back to the vmm, which posts the vector before the guest goes on."""
    guest.open_interrupts()
    seen = []
    board.bells["guest"].on_ring = lambda: seen.append(
        (board.world[world.RESUMED], board.gate[layout.INTERRUPT_MAILBOX])
    )
    guest.raise_line()
    assert board.lance[IRQ_LEVEL] == 1
    assert seen[-1] == (0, 0x2B + 1)


def test_the_line_going_down_goes_through_the_vmm_too(board: Board, guest: RawGuest):
    """An access that drops INTA# is passed on to the 8259 pair: no second interrupt after the EOI."""
    guest.open_interrupts()
    guest.raise_line()
    assert guest.take_interrupt() == 0x2B
    guest.write(RAP, 2, 4)
    guest.write(RDP, 2, 0x0040 | 0x0115)  # UINT acknowledged
    assert board.lance[IRQ_LEVEL] == 0
    guest.write(0x20, 1, 0x62)
    guest.write(0xA0, 1, 0x20)
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0
    assert board.counter("vmm", "irqs_raised") == 1


def test_an_interrupt_is_posted_once(board: Board, guest: RawGuest):
    """However many traps follow, one INTA cycle gives one vector until the handler says EOI."""
    guest.open_interrupts()
    guest.raise_line()
    assert guest.take_interrupt() == 0x2B
    for _ in range(20):
        guest.read(PIC_MASTER_DATA, 1)
        guest.read(RDP, 2)
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0
    assert board.counter("vmm", "irqs_raised") == 1
    guest.write(0x20, 1, 0x62)
    guest.write(0xA0, 1, 0x20)  # EOI with the level still up: the next one
    assert guest.take_interrupt() == 0x2B
    assert board.counter("vmm", "irqs_raised") == 2


def test_no_signal_for_a_guest_that_waits(board: Board, guest: RawGuest):
    """An interrupt that a trap brings along is found in the mailbox at the trap's end; no signal is sent."""
    guest.open_interrupts()
    guest.raise_line()
    assert guest.take_interrupt() == 0x2B
    assert board.irq_signals == 0


def test_a_full_mailbox_is_not_overwritten(board: Board, guest: RawGuest):
    """While a vector is on its way, none is taken from the 8259 pair."""
    guest.open_interrupts()
    board.gate[layout.INTERRUPT_MAILBOX] = 0x99
    guest.raise_line()
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0x99
    assert board.counter("vmm", "irqs_raised") == 0
    board.gate[layout.INTERRUPT_MAILBOX] = 0
    guest.read(PIC_MASTER_DATA, 1)
    assert guest.take_interrupt() == 0x2B


@pytest.mark.parametrize(
    "key",
    [
        0,
        pack_key(4, 1, PIC_MASTER_DATA),
        pack_key(KIND_IN, 0, PIC_MASTER_DATA),
        pack_key(KIND_IN, 3, PIC_MASTER_DATA),
        pack_key(KIND_OUT, 8, PIC_MASTER_DATA),
        pack_key(KIND_IN, 1, PIC_MASTER_DATA) | 1 << 32,
        pack_key(KIND_IN, 1, PIC_MASTER_DATA) | 1 << 63,
        (1 << 64) - 1,
    ],
)
def test_malformed_keys_are_refused(board: Board, guest: RawGuest, key: int):
    """A key that no guest can have made is answered with an error, counted, and does not stop the next request."""
    base = guest.post(key, 77)
    board.run_vmm()
    assert (board.gate[base], board.gate[base + ring.ERROR]) == (ring.COMPLETE, ring.REFUSED)
    assert board.bad_requests() == 1
    assert not board.switches
    assert guest.read(RAP, 2) == 0


def test_a_refused_hlt_is_no_hlt(board: Board, guest: RawGuest):
    """HLT with bits beyond a key's 32 is malformed as any other kind is."""
    base = guest.post(pack_key(KIND_HLT, 0, 0) | 1 << 40)
    board.run_vmm()
    assert (board.gate[base], board.gate[base + ring.ERROR]) == (ring.COMPLETE, ring.REFUSED)
    assert board.bad_requests() == 1


def test_unclaimed_ports_read_all_ones(board: Board, guest: RawGuest):
    """What no device claims reads ones of its width and swallows writes; each access is counted."""
    assert [guest.read(0x80, width) for width in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    guest.write(0x80, 4, 0xDEADBEEF)
    assert board.counter("vmm", "io_unclaimed") == 4
    assert board.port(0x80)[:2] == (3, 1)


def test_port_statistics(board: Board, guest: RawGuest):
    """Reads, writes and time are counted for each port, whichever world carried the access out."""
    guest.write(RAP, 2, 0)
    for _ in range(3):
        guest.read(RDP, 2)
    guest.write(RDP, 2, 0x0004)
    assert board.port(RAP)[:2] == (0, 1)
    assert board.port(RDP)[:2] == (3, 1)
    assert board.port(RDP)[2] > 0
    assert board.port(0x1234) == (0, 0, 0)


def test_port_table_overflow_shares_the_last_entry(board: Board, guest: RawGuest):
    """A guest that touches more ports than the table holds loses their names, not their numbers."""
    first, count = 0x2000, layout.PORT_SLOTS + 40
    for port in range(first, first + count):
        guest.read(port, 1)
    named = [board.port(port)[0] for port in range(first, first + count)]
    others = board.port(0x10000)[0]
    assert set(named) == {0, 1}
    assert sum(named) + others == count
    assert others > 40


def test_posted_out_completes_before_the_switch():
    """Fast profile: an OUT's slot is complete before vmapp is called; the write still happens."""
    states = []
    with Board(posted=True) as board:
        guest = RawGuest(board)
        guest.map_lance()
        guest.write(RAP, 2, 4)
        at = guest.base
        board.bells["vmapp"].on_ring = lambda: (states.append(board.gate[at]), board.answer())
        guest.write(RDP, 2, 0x0115)
        assert states == [ring.COMPLETE]
        assert board.world[world.SLOT] == world.NO_SLOT
        assert guest.read(RDP, 2) == 0x0115


def test_posted_in_waits_for_its_value():
    """Fast profile: an IN is synchronous as ever."""
    with Board(posted=True) as board:
        guest = RawGuest(board)
        guest.map_lance()
        guest.write(RAP, 2, 88)
        assert guest.read(RDP, 2) == 0x1003


def test_posted_out_that_raises_the_line_signals_a_running_guest():
    """Fast profile: the guest runs on when the interrupt comes, so it is told by signal, once."""
    with Board(posted=True) as board:
        guest = RawGuest(board)
        guest.map_lance()
        guest.open_interrupts()
        guest.raise_line()
        assert guest.take_interrupt() == 0x2B
        assert board.irq_signals == 1


def test_slots_wrap_around(board: Board, guest: RawGuest):
    """Many turns of the ring, switched and not: each request lands in the next slot and comes back complete."""
    for turn in range(5 * ring.SLOTS):
        guest.write(RAP, 2, turn % 128)
        assert guest.read(RAP, 2) == turn % 128
        guest.read(RDP, 2)
    assert board.bad_requests() == 0
