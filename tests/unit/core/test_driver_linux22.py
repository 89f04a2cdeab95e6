"""The driver of the paper's guest, on a Lance in the same process: what a packet costs, rings, receiving."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.drivers.pcnet import BUFFER_BYTES, LARGEST_FRAME
from machine.errors import SetupError
from machine.ports import PIC_MASTER_COMMAND, PIC_SLAVE_COMMAND, PIC_SLAVE_DATA
from tests.kit.barepc import BarePc
from tests.kit.board import MAC, RAP, RDP

PEER = bytes.fromhex("020000000001")
OUTGOING = PEER + MAC + b"\x08\x00"
INCOMING = MAC + PEER + b"\x08\x00"


def frame(head: bytes, number: int, size: int = 100) -> bytes:
    """A frame that tells which one it is."""
    return (head + number.to_bytes(4, "big")).ljust(size, b"\x55")


@pytest.fixture
def pc():
    """The paper's guest, its driver up."""
    with BarePc() as pc:
        yield pc


def test_a_lone_packet_costs_twelve_accesses_and_one_irq(pc: BarePc):
    """Paper, section 4.3: 12 accesses to the Lance (7 RAP, 5 RDP), one interrupt, 5 accesses to the 8259 pair."""
    pc.stack.send(frame(OUTGOING, 1))
    pc.run()
    assert pc.cpu.accesses() == {RAP: 7, RDP: 5, PIC_SLAVE_DATA: 3, PIC_MASTER_COMMAND: 1, PIC_SLAVE_COMMAND: 1}
    assert pc.cpu.irqs == 1
    assert pc.wire.sent == [frame(OUTGOING, 1)]


def test_the_order_of_the_twelve(pc: BarePc):
    """Two to send; then save RAP, read CSR0, acknowledge, look again, interrupts on, restore RAP."""
    pc.stack.send(frame(OUTGOING, 1))
    pc.run()
    lance = [(way, port) for way, port, _ in pc.cpu.log if port in (RAP, RDP)]
    send = [("out", RAP), ("out", RDP)]
    handler = [("in", RAP), ("out", RAP), ("in", RDP), ("out", RAP), ("out", RDP)]
    handler += [("out", RAP), ("in", RDP), ("out", RAP), ("out", RDP), ("out", RAP)]
    assert lance == send + handler


def test_each_packet_of_several_costs_the_same(pc: BarePc):
    """Packets with idleness between them cost 12 and 1 each, wherever they are in the ring (a turn and a half)."""
    for number in range(24):
        pc.stack.send(frame(OUTGOING, number))
        pc.run()
        assert (pc.cpu.accesses()[RAP], pc.cpu.accesses()[RDP], pc.cpu.irqs) == (7, 5, 1)
    assert pc.wire.sent == [frame(OUTGOING, number) for number in range(24)]


def test_transmit_ring_full(pc: BarePc):
    """While the chip takes nothing, 15 of 16 TMDs fill; then the driver stops reading its stack, and loses nothing."""
    pc.engine_runs = False
    backlog = 0
    for number in range(40):
        try:
            pc.stack.send(frame(OUTGOING, number))
        except BlockingIOError:
            break
        backlog += 1
        pc.run()
    assert pc.chip.tx_used == 15
    assert pc.counter("guest_tap_reads") == 15
    assert pc.counter("guest_tx_ring_full") > 0
    pc.engine_runs = True
    pc.cpu.at_halt.append(lambda: pc.engine.run(2))
    for _ in range(3):
        pc.cpu.at_halt.append(pc.engine.poll)
    pc.run()
    assert pc.wire.sent == [frame(OUTGOING, number) for number in range(backlog)]
    assert pc.chip.tx_used == 0


def test_receive(pc: BarePc):
    """Frames from the wire reach the stack in order and without FCS; their RMDs go back to the chip."""
    frames = [frame(INCOMING, number, 60 + number) for number in range(20)]
    for one in frames:
        pc.cpu.at_halt.append(lambda one=one: pc.arrive(one))
    pc.run()
    assert pc.delivered() == frames
    assert pc.counter("guest_tap_writes") == 20
    assert pc.cpu.irqs == 20


def test_a_burst_larger_than_the_ring(pc: BarePc):
    """A burst of 80 into a ring of 32: what finds no RMD waits on the wire, the rest costs few interrupts."""
    frames = [frame(INCOMING, number) for number in range(80)]
    received = []
    pc.wire.waiting.extend(frames)
    for _ in range(4):
        pc.cpu.at_halt.append(pc.arrive)
        pc.run()
        received += pc.delivered()
    assert received == frames
    assert pc.counter("guest_rx_errors") == 0


def test_largest_frames_both_ways(pc: BarePc):
    """1514 bytes, no truncation, and short frames are padded by the chip on the wire only."""
    largest = frame(OUTGOING, 1, LARGEST_FRAME)
    pc.stack.send(largest)
    pc.run()
    pc.stack.send(OUTGOING)
    pc.run()
    assert pc.wire.sent[0] == largest
    assert pc.wire.sent[1].startswith(OUTGOING)
    assert len(pc.wire.sent[1]) in (14, 60)
    pc.cpu.at_halt.append(lambda: pc.arrive(frame(INCOMING, 2, LARGEST_FRAME)))
    pc.run()
    assert pc.delivered() == [frame(INCOMING, 2, LARGEST_FRAME)]


def test_a_bad_frame_is_counted_and_its_rmd_reused(pc: BarePc):
    """A frame too long for its buffer chains over two RMDs: the driver refuses both and goes on."""
    pc.cpu.at_halt.append(lambda: pc.arrive(frame(INCOMING, 1, BUFFER_BYTES + 100)))
    pc.cpu.at_halt.append(lambda: pc.arrive(frame(INCOMING, 2)))
    pc.run()
    assert pc.delivered() == [frame(INCOMING, 2)]
    assert pc.counter("guest_rx_errors") == 2


def test_a_stack_that_refuses_frames(pc: BarePc):
    """The stack is gone: frames are counted as errors, and the driver carries on."""
    pc.stack.close()
    pc.cpu.at_halt.append(lambda: pc.arrive(frame(INCOMING, 1)))
    pc.cpu.hlt = _halt_without_events(pc)  # type: ignore[method-assign]
    pc.run()
    assert pc.counter("guest_rx_errors") == 1
    assert pc.chip.rx_next == 1


def _halt_without_events(pc: BarePc):
    """HLT for a stack that is closed, whose descriptor is always ready."""
    halt = type(pc.cpu).hlt

    class Nothing:
        def poll(self, _timeout: int) -> list[tuple[int, int]]:
            return []

    return lambda _events: halt(pc.cpu, Nothing())


@given(st.lists(st.sampled_from(["send", "arrive"]), max_size=60))
@settings(deadline=None)
def test_any_mixture_is_lossless_and_ordered(events: list[str]):
    """Whatever the mixture of frames sent and received, none is lost, doubled or reordered."""
    with BarePc(log_tx=2, log_rx=2) as pc:
        arrived = []
        for number, event in enumerate(events):
            if event == "send":
                pc.stack.send(frame(OUTGOING, number))
            else:
                pc.cpu.at_halt.append(lambda number=number: pc.arrive(frame(INCOMING, number)))
            pc.run()
            arrived += pc.delivered()
        assert pc.wire.sent == [frame(OUTGOING, number) for number, event in enumerate(events) if event == "send"]
        assert arrived == [frame(INCOMING, number) for number, event in enumerate(events) if event == "arrive"]
        assert pc.chip.tx_used == 0


def test_no_chip(pc: BarePc):
    """Where nothing answers, open() says so in one line."""
    pc.chip.rdp = 0x3000
    with pytest.raises(SetupError, match="no Lance"):
        pc.chip.open(MAC)


def test_chip_that_never_initialises(pc: BarePc):
    """open() gives up after a bounded number of looks at IDON."""
    pc.engine_runs = False
    with pytest.raises(SetupError, match="IDON"):
        pc.chip.open(MAC)
