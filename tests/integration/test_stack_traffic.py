"""Real programs across the virtual NIC: ping, iperf3, and megabytes that arrive as they were sent."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time

import pytest

from netbackend import namespaces
from tests.kit.frames import PacketSocket
from tests.kit.programs import iperf3, ping, tcp_transfer
from tests.kit.stack import running

DRIVERS = {"linux22": {}, "napi": {"driver": "napi", "posted": True}}
WAYS = [("guest", "peer"), ("peer", "guest")]
PINGS = 200
SECONDS = 3
TRANSFER = 100 << 20
ETHERTYPE_IP = 0x0800


@pytest.fixture(scope="module", params=DRIVERS)
def bed(request):
    """A stack with each driver on the paper's 100 Mb/s wire."""
    with running(link="100mbit", **DRIVERS[request.param]) as made:
        yield made


@pytest.fixture(scope="module")
def quick():
    """A stack as quick as the machine allows, its wire unlimited."""
    with running(profile="fast") as made:
        yield made


def check_nothing_lost(cost):
    """No layer of the stack has dropped or refused a frame, and the counters agree with each other."""
    counters = cost.counters
    lost = ("rx_missed", "rx_errors", "tx_errors", "tap_write_errors", "guest_rx_errors", "memory_errors")
    assert not {name: counters[name] for name in lost if counters[name]}
    assert counters["tx_frames"] == counters["tap_writes"] == counters["guest_tap_reads"]
    assert counters["rx_frames"] == counters["guest_tap_writes"] <= counters["tap_reads"]
    assert counters["irqs_raised"] == counters["irqs_delivered"]
    assert not counters["bad_requests"]


def neighbours(station):
    """IP address -> MAC, as a station's kernel has learned them by ARP."""

    def read():
        with open("/proc/thread-self/net/arp", encoding="ascii") as file:
            return {line.split()[0]: line.split()[3] for line in list(file)[1:]}

    return namespaces.run(station.namespace, read)


@pytest.mark.parametrize(("source", "sink"), WAYS)
def test_no_ping_is_lost(bed, source, sink):
    """200 echo requests each way, one every 2 ms, are all answered, and every frame is accounted for."""
    with bed.measured() as cost:
        assert ping(bed, source, sink, PINGS) == PINGS
    check_nothing_lost(cost)
    assert PINGS <= cost.counters["tx_frames"] <= 1.2 * PINGS  # and ARP, now and then
    assert PINGS <= cost.counters["rx_frames"] <= 1.2 * PINGS


def test_the_peer_sees_the_virtual_nics_address(bed):
    """ARP resolves across the NIC both ways, and frames reach the peer from the virtual NIC's own MAC."""
    guest, peer = bed.plan.guest, bed.plan.peer
    with PacketSocket.of(peer, ETHERTYPE_IP) as wire:
        assert ping(bed, "guest", "peer", 2) == 2
        frames = wire.receive(2, 2.0)
    assert {frame[6:12].hex(":") for frame in frames} == {guest.mac}
    assert neighbours(peer)[guest.address] == guest.mac
    assert neighbours(guest)[peer.address] == peer.mac


@pytest.mark.parametrize(("source", "sink"), WAYS)
def test_tcp_loses_nothing(bed, source, sink):
    """iperf3 over TCP each way for 3 s: no segment lost, no frame dropped, and as many bytes as were counted."""
    with bed.measured() as cost:
        end, lost = tcp_transfer(bed, source, sink, SECONDS)
    check_nothing_lost(cost)
    assert lost == 0
    carried = cost.counters["tx_bytes" if source == "guest" else "rx_bytes"]
    assert end["sum_received"]["bytes"] < carried < 1.1 * end["sum_sent"]["bytes"]  # what is sent last waits in sockets
    assert 1e6 < end["sum_received"]["bits_per_second"] < 100e6


@pytest.mark.parametrize(("source", "sink"), WAYS)
def test_udp_at_20_megabits_loses_nothing(bed, source, sink):
    """iperf3 over UDP at 20 Mb/s each way for 3 s: every datagram arrives."""
    with bed.measured() as cost:
        end = iperf3(bed, source, sink, SECONDS, "-u", "-b", "20M")
    check_nothing_lost(cost)
    assert end["sum"]["lost_packets"] == 0
    assert end["sum"]["packets"] > 4000


def tcp(station):
    """A TCP socket on a station, bound to its address."""
    made = namespaces.run(station.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    made.settimeout(10)
    made.bind((station.address, 0))
    return made


def push(sender, digest):
    """Sends pseudo-random blocks, ``TRANSFER`` bytes in all, and takes their checksum."""
    block = os.urandom(1 << 20)
    for number in range(TRANSFER >> 20):
        data = number.to_bytes(8, "big") + block[8:]
        digest.update(data)
        sender.sendall(data)
    sender.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(("source", "sink"), WAYS)
def test_a_hundred_megabytes_arrive_unchanged(quick, source, sink):
    """100 MB of random data each way have the same SHA-256 at both ends."""
    sent, received = hashlib.sha256(), hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    started = time.monotonic()
    with tcp(quick.plan.stations[sink]) as listener, tcp(quick.plan.stations[source]) as sender:
        listener.listen()
        sender.connect(listener.getsockname())
        worker = threading.Thread(target=push, args=(sender, sent))
        worker.start()
        receiver, _ = listener.accept()
        with receiver:
            receiver.settimeout(10)
            while size := receiver.recv_into(buffer):
                received.update(buffer[:size])
        worker.join()
    assert received.digest() == sent.digest()
    assert time.monotonic() - started < 30
