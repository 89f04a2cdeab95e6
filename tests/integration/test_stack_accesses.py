"""The paper's cost of a packet, counted in a running stack: port accesses, interrupts, world switches."""

from __future__ import annotations

import pytest

from machine.ports import LANCE_DEFAULT_BASE, LANCE_PORTS, PIC_MASTER_COMMAND, PIC_SLAVE_COMMAND
from tests.kit.frames import PacketSocket, mac_bytes, numbered
from tests.kit.stack import running

RDP, RAP = LANCE_DEFAULT_BASE + 0x10, LANCE_DEFAULT_BASE + 0x12
PACKETS = 5


@pytest.fixture(scope="module")
def bed():
    """The paper's guest on version 2.0."""
    with running(mode="2.0", driver="linux22") as made:
        yield made


@pytest.fixture
def frame(bed):
    """A frame from the guest to the peer that nobody answers."""
    return numbered(mac_bytes(bed.plan.peer.mac), mac_bytes(bed.plan.guest.mac), 1)


@pytest.mark.parametrize("attempt", range(PACKETS))
def test_a_lone_packet_sent_costs_what_the_paper_says(bed, frame, attempt):
    """One packet: 12 port accesses to the Lance (7 RAP, 5 RDP), 5 of them world switches, and one interrupt."""
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        guest.send(frame)
        assert peer.receive(1, 2.0) == [frame]
    assert cost.accesses(LANCE_DEFAULT_BASE, LANCE_PORTS) == 12
    assert (sum(cost.ports[RAP]), sum(cost.ports[RDP])) == (7, 5)
    assert cost.counters["switches_for_io"] == 5
    assert cost.counters["irqs_raised"] == cost.counters["irqs_delivered"] == 1
    assert cost.counters["tx_frames"] == cost.counters["guest_tap_reads"] == cost.counters["tap_writes"] == 1


def test_an_interrupt_costs_five_accesses_to_the_8259_pair(bed, frame):
    """The guest's kernel adds 5 accesses to the interrupt controllers to each interrupt, all handled in the vmm."""
    with PacketSocket.of(bed.plan.guest) as guest, bed.measured() as cost:
        guest.send(frame)
    pic = sum(cost.accesses(first, 2) for first in (PIC_MASTER_COMMAND, PIC_SLAVE_COMMAND))
    assert pic == 5 * cost.counters["irqs_raised"] == 5
    assert sum(sum(pair) for pair in cost.ports.values()) == 12 + 5


def test_a_lone_packet_received_costs_one_interrupt(bed):
    """One packet received: one interrupt, the ten port accesses of its handler, no drop anywhere."""
    frame = numbered(mac_bytes(bed.plan.guest.mac), mac_bytes(bed.plan.peer.mac), 2)
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        peer.send(frame)
        assert guest.receive(1, 2.0) == [frame]
    assert cost.accesses(LANCE_DEFAULT_BASE, LANCE_PORTS) == 10
    assert cost.counters["irqs_raised"] == cost.counters["rx_frames"] == cost.counters["guest_tap_writes"] == 1
    assert cost.counters["rx_missed"] == cost.counters["rx_errors"] == 0
