"""The present-day driver: one kick a batch, interrupts masked while it polls, none lost when it unmasks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.lance.bits import CSR0_TDMD, CSR3_MASKS
from tests.kit.barepc import BarePc
from tests.kit.board import MAC, RDP

PEER = bytes.fromhex("020000000001")
OUTGOING = PEER + MAC + b"\x08\x00"
INCOMING = MAC + PEER + b"\x08\x00"


def frame(head: bytes, number: int, size: int = 100) -> bytes:
    """A frame that tells which one it is."""
    return (head + number.to_bytes(4, "big")).ljust(size, b"\x55")


def kicks(pc: BarePc) -> int:
    """CSR0 writes with TDMD since the last run()."""
    return sum(way == "out" and port == RDP and bool(value & CSR0_TDMD) for way, port, value in pc.cpu.log)


@pytest.fixture
def pc():
    """The driver up, its chip with rings of 256."""
    with BarePc("napi", log_tx=8, log_rx=8) as pc:
        yield pc


def test_one_kick_a_batch(pc: BarePc):
    """Eight frames that wait in the stack cost one CSR0 write, and no interrupt."""
    for number in range(8):
        pc.stack.send(frame(OUTGOING, number))
    pc.run()
    assert pc.wire.sent == [frame(OUTGOING, number) for number in range(8)]
    assert kicks(pc) == 1
    assert pc.cpu.irqs == 0


def test_a_burst_costs_one_interrupt(pc: BarePc):
    """Frames received in a burst: one interrupt, masked until the poll has emptied the ring."""
    frames = [frame(INCOMING, number) for number in range(50)]
    pc.cpu.at_halt.append(lambda: pc.arrive(*frames))
    pc.run()
    assert pc.delivered() == frames
    assert pc.cpu.irqs == 1
    assert pc.registers.read_csr(3) == 0, "unmasked again"


def test_the_handler_masks_and_leaves_the_work(pc: BarePc):
    """The interrupt handler moves no frame; INTA# is down and the causes are masked when it returns."""
    pc.run()
    pc.wire.waiting.append(frame(INCOMING, 1))
    pc.engine.receive()
    assert pc.registers.irq_level == 1
    pc.driver.interrupt()
    assert pc.registers.irq_level == 0
    assert pc.registers.read_csr(3) & CSR3_MASKS == CSR3_MASKS
    assert pc.delivered() == []


def test_a_frame_that_comes_while_masked_is_not_lost(pc: BarePc):
    """The window between the last poll and the unmasking: what arrives there is seen without an interrupt."""
    late = frame(INCOMING, 2)
    write = pc.chip.write_csr

    def write_csr(index: int, value: int) -> None:
        if index == 0 and pc.wire.waiting:
            pc.engine.receive()  # arrives just before its cause is cleared
        write(index, value)

    pc.chip.write_csr = write_csr  # type: ignore[method-assign]
    pc.cpu.at_halt.append(lambda: (pc.arrive(frame(INCOMING, 1)), pc.wire.waiting.append(late)))
    pc.run()
    assert pc.delivered() == [frame(INCOMING, 1), late]


def test_a_full_ring_asks_for_an_interrupt(pc: BarePc):
    """While the chip takes nothing the ring fills; descriptors late in it carry LTINT, which wakes the driver."""
    pc.engine_runs = False
    sent = 0
    while pc.chip.tx_used < pc.chip.tx_size - 1:
        pc.stack.send(frame(OUTGOING, sent))
        sent += 1
        pc.run()
    assert pc.counter("guest_tx_ring_full") > 0
    pc.engine_runs = True
    pc.cpu.at_halt.extend([lambda: pc.engine.run(2)] * 20)
    pc.run()
    assert len(pc.wire.sent) == sent
    assert pc.cpu.irqs >= 1
    assert pc.chip.tx_used == 0


@given(st.lists(st.sampled_from(["send", "arrive"]), max_size=40))
@settings(deadline=None)
def test_any_mixture_is_lossless_and_ordered(events: list[str]):
    """Whatever the mixture of frames sent and received, none is lost, doubled or reordered."""
    with BarePc("napi", log_tx=3, log_rx=2) as pc:
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
