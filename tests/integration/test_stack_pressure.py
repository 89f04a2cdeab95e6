"""What a full queue does, and frames that no driver would send: nothing is lost without being counted."""

from __future__ import annotations

import time

import pytest

from netbackend import links, namespaces
from netbackend.plan import BRIDGE, HOST_TAP, STATION_INTERFACE, WIRE
from tests.kit.frames import PacketSocket, mac_bytes, numbered
from tests.kit.programs import ping
from tests.kit.stack import eventually, running

DRIVERS = {"linux22": {}, "napi": {"driver": "napi", "posted": True}}
FRAMES = 1500  # fewer than a TAP's queue holds, many more than a ring
FLOOD = 1000
JUMBO = 9000


@pytest.fixture(scope="module", params=DRIVERS)
def bed(request):
    """A stack with each driver, its wire unlimited."""
    with running(**DRIVERS[request.param]) as made:
        yield made


@pytest.fixture
def macs(bed):
    """MACs of guest and peer."""
    return mac_bytes(bed.plan.guest.mac), mac_bytes(bed.plan.peer.mac)


def still_works(bed):
    """The stack carries traffic as before, both ways."""
    bed.alive()
    bed.settle()
    assert ping(bed, "guest", "peer", 10) == 10
    assert ping(bed, "peer", "guest", 10) == 10


def numbers(frames):
    """What ``numbered`` put into each frame."""
    return [int.from_bytes(frame[14:18], "big") for frame in frames]


@pytest.mark.parametrize("role", ["vmapp", "vmm"])
def test_a_transmitter_that_stands_still_loses_nothing(bed, macs, role):
    """While vmapp or vmm is stopped, frames of the guest's stack wait in its TAP; all arrive, in order."""
    guest_mac, peer_mac = macs
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        before = bed.counters()["guest_tap_reads"]
        with bed.stopped(role):
            for number in range(FRAMES):
                guest.send(numbered(peer_mac, guest_mac, number))
            time.sleep(0.1)
            assert bed.counters()["guest_tap_reads"] - before < FRAMES / 10
        frames = peer.receive(FRAMES, 10.0)
    assert numbers(frames) == list(range(FRAMES))
    assert cost.counters["tx_frames"] == cost.counters["guest_tap_reads"] == FRAMES
    assert cost.counters["tap_write_errors"] == cost.counters["tx_errors"] == 0
    still_works(bed)


def test_a_guest_that_stands_still_misses_frames_and_says_so(bed, macs):
    """A stopped guest's receive ring fills: what then arrives is missed, counted, and all the rest is delivered."""
    guest_mac, peer_mac = macs
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        with bed.stopped("guest"):
            for number in range(FLOOD):
                peer.send(numbered(guest_mac, peer_mac, number))
            assert eventually(lambda: bed.counters()["rx_missed"] > 0)
        frames = guest.receive(FLOOD, 1.0)
    arrived, missed = numbers(frames), cost.counters["rx_missed"]
    assert missed > 0
    assert arrived == sorted(set(arrived))
    assert len(arrived) + missed == FLOOD
    assert len(arrived) == cost.counters["rx_frames"] == cost.counters["guest_tap_writes"]
    still_works(bed)


def set_mtu(bed, role, name, mtu):
    """Changes the MTU of an interface on a machine."""

    def change():
        with links.session() as connection:
            links.configure(connection, name, mtu=mtu)

    namespaces.run(bed.plan.stations[role].namespace, change)


@pytest.fixture
def jumbo(bed):
    """Every interface between the peer and the host TAP carries jumbo frames."""
    places = (("peer", STATION_INTERFACE), ("host", WIRE), ("host", HOST_TAP), ("host", BRIDGE))
    for role, name in places:
        set_mtu(bed, role, name, JUMBO)
    yield
    for role, name in reversed(places):
        set_mtu(bed, role, name, bed.plan.mtu)


@pytest.mark.parametrize("size", [1515, 1519, 4096, JUMBO])
def test_an_oversize_frame_is_harmless(bed, macs, jumbo, size):
    """Frames longer than Ethernet's largest overflow the driver's buffer; they are counted, and no more."""
    guest_mac, peer_mac = macs
    with PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        for number in range(20):
            peer.send(numbered(guest_mac, peer_mac, number, size))
    assert cost.counters["tap_reads"] == 20
    assert cost.counters["memory_errors"] == 0
    still_works(bed)


@pytest.mark.parametrize("size", [14, 15, 46, 59])
def test_a_runt_is_harmless(bed, macs, size):
    """Frames shorter than Ethernet's smallest are received padded, as their sender should have padded them."""
    guest_mac, peer_mac = macs
    frame = numbered(guest_mac, peer_mac, 7)[:size]
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket(bed.plan.host, HOST_TAP) as tap:
        tap.send(frame)
        assert guest.receive(1, 2.0) == [frame.ljust(60, b"\0")]
    still_works(bed)
