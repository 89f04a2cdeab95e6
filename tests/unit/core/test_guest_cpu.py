"""The guest's processor on a real monitor and a real host world, all in one process."""

from __future__ import annotations

import os
import select
from itertools import pairwise

import pytest

from guest.cpu import Cpu
from guest.memory import GuestRam
from guest.platform import InterruptController, PciFunction, find_device
from guest.probe import probe
from machine import layout, ring
from machine.errors import ControlError, LayoutError, SetupError
from machine.lance.pci import DEVICE_ID, VENDOR_ID
from machine.launch import IRQ_SIGNAL
from machine.ports import LANCE_DEFAULT_BASE, LANCE_IRQ, PIC_MASTER_DATA, PIC_SLAVE_DATA
from tests.kit.board import RAP, RDP, Board

pytestmark = pytest.mark.timeout(60, method="thread")  # the code under test owns SIGALRM


@pytest.fixture(params=["2.0", "optimised"])
def board(request: pytest.FixtureRequest):
    """Nothing optimised, everything optimised."""
    with Board(mode=request.param) as board:
        yield board


@pytest.fixture
def cpu(board: Board) -> Cpu:
    """A processor just reset."""
    return Cpu(board.station("guest"))


@pytest.fixture
def events(board: Board):
    """What a halted guest polls: its wake descriptor and its network stack."""
    poll = select.poll()
    poll.register(board.fds["wake"], select.POLLIN)
    poll.register(board.station("guest").fds["tap"], select.POLLIN)
    return poll


def user_interrupt(cpu: Cpu) -> None:
    """Has the Lance raise INTA# (CSR4.UINTCMD)."""
    for index, value in ((0, 0x0040), (4, 0x0080 | 0x0115)):
        cpu.write_port(RAP, 2, index)
        cpu.write_port(RDP, 2, value)


def end_of_interrupt(cpu: Cpu) -> None:
    """What a handler does about a user interrupt: acknowledges it in CSR4."""
    cpu.write_port(RAP, 2, 4)
    cpu.write_port(RDP, 2, 0x0040 | 0x0115)


def booted(cpu: Cpu, hits: list[int]) -> None:
    """8259 pair and Lance ready, a handler on IRQ 11 that acknowledges and remembers."""
    interrupts = InterruptController(cpu)
    irq = find_device(cpu, VENDOR_ID, DEVICE_ID).enable(LANCE_DEFAULT_BASE)

    def handler() -> None:
        hits.append(cpu.read_port(PIC_SLAVE_DATA, 1))
        end_of_interrupt(cpu)

    interrupts.request(irq, handler)


def test_port_accesses(board: Board, cpu: Cpu):
    """IN and OUT of every width, many turns of the ring."""
    for value in range(3 * ring.SLOTS):
        cpu.write_port(PIC_MASTER_DATA, 1, value)
        assert cpu.read_port(PIC_MASTER_DATA, 1) == value
        assert cpu.read_port(0x80, 4) == 0xFFFFFFFF
    assert all(board.gate[slot * ring.SLOT_WORDS] == ring.FREE for slot in range(ring.SLOTS))


def test_the_lance_is_where_pci_says(board: Board, cpu: Cpu):
    """Found by its IDs, sized to 32 ports, mapped, wired to IRQ 11."""
    function = find_device(cpu, VENDOR_ID, DEVICE_ID)
    assert function.enable(LANCE_DEFAULT_BASE) == LANCE_IRQ
    assert function.read(0x10) == LANCE_DEFAULT_BASE | 1
    cpu.write_port(RAP, 2, 88)
    assert cpu.read_port(RDP, 2) == 0x1003


def test_no_such_device(cpu: Cpu):
    """A device that is not there is a SetupError that names it."""
    with pytest.raises(SetupError, match="8086:1234"):
        find_device(cpu, 0x8086, 0x1234)


def test_empty_slots_read_all_ones(cpu: Cpu):
    """Configuration space of an empty slot."""
    assert PciFunction(cpu, 9).read(0) == 0xFFFFFFFF


@pytest.mark.parametrize("irq", [-1, 0, 7, 16])
def test_irqs_that_are_not_the_slaves(cpu: Cpu, irq: int):
    """Only inputs of the slave can be requested."""
    with pytest.raises(SetupError, match="not an input of the slave"):
        InterruptController(cpu).request(irq, lambda: None)


def test_interrupts_wait_for_sti(board: Board, cpu: Cpu):
    """After reset interrupts are off: the vector stays in the mailbox until STI, then the handler runs once."""
    hits: list[int] = []
    booted(cpu, hits)
    user_interrupt(cpu)
    assert hits == []
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0x2B + 1
    cpu.sti()
    assert len(hits) == 1
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0
    assert board.counter("guest", "irqs_delivered") == 1


def test_interrupts_come_between_two_instructions(board: Board, cpu: Cpu):
    """With interrupts on, the access that raised the line has returned its slot before the handler runs."""
    hits: list[int] = []
    booted(cpu, hits)
    cpu.sti()
    user_interrupt(cpu)
    assert len(hits) == 1
    assert board.counter("guest", "irqs_delivered") == 1
    assert board.counter("vmm", "irqs_raised") == 1


def test_the_line_is_masked_while_its_handler_runs(board: Board, cpu: Cpu):
    """mask_and_ack_8259A came first: the handler sees its own input masked in the slave's IMR."""
    hits: list[int] = []
    booted(cpu, hits)
    cpu.sti()
    user_interrupt(cpu)
    assert hits == [0xFF]
    assert cpu.read_port(PIC_SLAVE_DATA, 1) == 0xF7


def test_five_accesses_to_the_controller_per_interrupt(board: Board, cpu: Cpu):
    """Paper, section 4.1: three to the slave's IMR, one EOI for each chip."""
    hits: list[int] = []
    booted(cpu, hits)
    cpu.sti()
    ports = (0x20, 0x21, 0xA0, 0xA1)
    before = {port: sum(board.port(port)[:2]) for port in ports}
    user_interrupt(cpu)
    spent = {port: sum(board.port(port)[:2]) - before[port] for port in ports}
    assert spent == {0x20: 1, 0x21: 0, 0xA0: 1, 0xA1: 3 + 1}  # and the handler's own look at the IMR


def test_cli_holds_a_signal_off(board: Board, cpu: Cpu):
    """The IRQ signal while interrupts are off delivers nothing; STI does."""
    hits: list[int] = []
    booted(cpu, hits)
    cpu.sti()
    cpu.cli()
    board.gate[layout.INTERRUPT_MAILBOX] = 0x2B + 1
    os.kill(os.getpid(), IRQ_SIGNAL)
    assert hits == []
    cpu.sti()
    assert len(hits) == 1


def test_a_running_guest_is_interrupted_by_signal(board: Board, cpu: Cpu):
    """Mailbox and signal between two traps: the handler runs at once, and is counted as such."""
    hits: list[int] = []
    booted(cpu, hits)
    cpu.sti()
    board.gate[layout.INTERRUPT_MAILBOX] = 0x2B + 1
    os.kill(os.getpid(), IRQ_SIGNAL)
    assert len(hits) == 1
    assert board.counter("guest", "irqs_by_signal") == 1


def test_a_stray_signal_delivers_nothing(board: Board, cpu: Cpu):
    """A signal that is late, its vector taken already, is no interrupt."""
    cpu.sti()
    os.kill(os.getpid(), IRQ_SIGNAL)
    assert board.counter("guest", "irqs_delivered") == 0


def test_a_vector_without_a_gate_is_dropped(board: Board, cpu: Cpu):
    """The mailbox is emptied, so that the next vector finds its way."""
    cpu.sti()
    board.gate[layout.INTERRUPT_MAILBOX] = 0x77 + 1
    os.kill(os.getpid(), IRQ_SIGNAL)
    assert board.gate[layout.INTERRUPT_MAILBOX] == 0


def test_hlt_returns_at_once_with_an_interrupt_pending(board: Board, cpu: Cpu, events: select.poll):
    """STI; HLT with a vector in the mailbox: the handler runs, nobody sleeps."""
    hits: list[int] = []
    booted(cpu, hits)
    user_interrupt(cpu)
    cpu.hlt(events)
    assert len(hits) == 1


def test_a_guest_event_ends_hlt(board: Board, cpu: Cpu, events: select.poll):
    """The network stack has a frame: HLT returns, its slot still the vmm's, and the cancel word says so."""
    board.stack.send(b"frame")
    cpu.hlt(events)
    assert board.counter("guest", "hlt") == 1
    assert board.gate[layout.TRAP_CANCEL] == board.gate[ring.SEQUENCE]
    assert board.gate[0] == ring.POSTED


def test_the_slot_of_a_hlt_is_met_again(board: Board, cpu: Cpu, events: select.poll):
    """Three rounds of HLTs ended by guest events and accesses between them: each slot is taken back a turn later."""
    board.stack.send(b"frame")
    for _ in range(3 * ring.SLOTS):
        cpu.hlt(events)
        cpu.write_port(PIC_MASTER_DATA, 1, 0xFB)
        assert cpu.read_port(PIC_MASTER_DATA, 1) == 0xFB
    assert board.counter("guest", "hlt") == 3 * ring.SLOTS
    assert board.bad_requests() == 0


def test_nothing_but_halts(board: Board, cpu: Cpu, events: select.poll):
    """HLTs alone, each ended by a guest event: the vmm follows through every turn of the ring."""
    board.stack.send(b"frame")
    for _ in range(3 * ring.SLOTS):
        cpu.hlt(events)
    assert cpu.read_port(0x80, 1) == 0xFF


def test_a_refused_request_is_an_error(board: Board, cpu: Cpu):
    """A width that no instruction has: the guest's own program is wrong, and hears of it."""
    with pytest.raises(ControlError, match="refused"):
        cpu.read_port(0x80, 3)
    assert board.bad_requests() == 1


def test_rap_is_plain_memory_only_where_it_is_said_to_be(board: Board, cpu: Cpu):
    """With ``ports`` RAP costs no trap, and what was stored there is what RDP then means; without, it traps."""
    find_device(cpu, VENDOR_ID, DEVICE_ID).enable(LANCE_DEFAULT_BASE)
    plain = board.settings.optimisations.ports
    cpu.write_port(RAP, 2, 88)
    assert cpu.read_port(RAP, 2) == 88
    assert cpu.read_port(RDP, 2) == 0x1003
    assert board.port(RAP)[:2] == ((0, 0) if plain else (1, 1))
    assert board.counter("guest", "rap_stores") == (2 if plain else 0)


def test_rap_holds_seven_bits(board: Board, cpu: Cpu):
    """Wherever RAP is, a 16-bit store keeps bits 0 to 6."""
    find_device(cpu, VENDOR_ID, DEVICE_ID).enable(LANCE_DEFAULT_BASE)
    cpu.write_port(RAP, 2, 0xFFD8)
    assert cpu.read_port(RAP, 2) == 0x58


def test_the_probe_times_what_it_says(board: Board, cpu: Cpu):
    """Two series of the asked length, one that the vmm answers; the other switches, unless the vmm has all ports."""
    InterruptController(cpu)
    find_device(cpu, VENDOR_ID, DEVICE_ID).enable(LANCE_DEFAULT_BASE)
    board.switches.clear()
    series = probe(cpu, 5)
    times = [memoryview(series[name]).cast("Q") for name in ("vmm", "vmapp")]
    assert [len(one) for one in times] == [5, 5]
    assert all(value > 0 for one in times for value in one)
    assert len(board.switches) == (0 if board.settings.optimisations.ports else 5)


def test_guest_ram_allocates_apart_and_aligned():
    """Addresses are aligned, never 0, never shared; when memory is used up there is an error, not an overlap."""
    ram = GuestRam(memoryview(bytearray(16384)))
    taken = [(ram.allocate(size, alignment), size, alignment) for size, alignment in ((28, 64), (16, 16), (1600, 4))]
    for (first, size, _), (following, _, _) in pairwise(taken):
        assert first + size <= following
    assert all(address % alignment == 0 and address >= 0x1000 for address, _, alignment in taken)
    with pytest.raises(LayoutError, match="ram_mib"):
        ram.allocate(16384)
    assert ram.allocate(4) > taken[-1][0]
