"""The wire's rate, measured: with datagrams and with TCP, each way, and after a live change."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.rate import ETHERNET_OVERHEAD, parse_rate
from netbackend.topology import build, link_statistics, set_link_rate

PAYLOAD = 1472  # bytes of UDP in a full frame
ON_THE_WIRE = PAYLOAD + 8 + 20 + 14 + ETHERNET_OVERHEAD
SECONDS = 1.0


@pytest.fixture
def network():
    """A network with a wire of 50 Mb/s."""
    with build(NetworkPlan(f"r{os.getpid()}"), parse_rate("50mbit")) as built:
        yield built


def opened(station, kind):
    """An AF_INET socket of a station."""
    made = namespaces.run(station.namespace, lambda: socket.socket(socket.AF_INET, kind))
    made.settimeout(3)
    return made


def flood(sender, address, until):
    """Sends full datagrams until the time is up; the socket's send buffer makes it wait for the wire."""
    payload = bytes(PAYLOAD)
    while time.monotonic() < until:
        sender.sendto(payload, address)


def received(station):
    """(frames that a station's interface has received, time in seconds), read as close together as can be."""

    def read():
        with open("/proc/thread-self/net/dev") as file:
            line = next(line for line in file if line.strip().startswith(f"{station.interface}:"))
        return int(line.split(":")[1].split()[1]), time.monotonic()

    return namespaces.run(station.namespace, read)


def udp_rate(source, sink):
    """Bits per second, as they are on the wire, that arrive at ``sink`` when ``source`` sends all it can."""
    with opened(source, socket.SOCK_DGRAM) as sender:
        until = time.monotonic() + SECONDS + 0.5
        worker = threading.Thread(target=flood, args=(sender, (sink.address, 9), until))
        worker.start()
        time.sleep(0.3)
        before, start = received(sink)
        time.sleep(SECONDS)
        after, end = received(sink)
        worker.join()
    return (after - before) * ON_THE_WIRE * 8 / (end - start)


def pour(sender, until):
    """Writes to a TCP connection until the time is up, then ends it."""
    with sender:
        while time.monotonic() < until:
            sender.sendall(bytes(65536))


def tcp_rate(source, sink):
    """Bits per second of payload that TCP gets from ``source`` to ``sink``, its start left out."""
    with opened(sink, socket.SOCK_STREAM) as listener:
        listener.bind((sink.address, 0))
        listener.listen()
        sender = opened(source, socket.SOCK_STREAM)
        sender.connect(listener.getsockname())
        worker = threading.Thread(target=pour, args=(sender, time.monotonic() + SECONDS + 1))
        worker.start()
        receiver, _ = listener.accept()
        with receiver:
            rate = received_rate(receiver)
            while receiver.recv(1 << 16):
                pass
        worker.join()
    return rate


def received_rate(receiver):
    """Bits per second that arrive, from half a second after the start."""
    begin = time.monotonic() + 0.5
    while time.monotonic() < begin:
        receiver.recv(1 << 16)
    start = time.monotonic()
    count = 0
    while time.monotonic() < start + SECONDS:
        count += len(receiver.recv(1 << 16))
    return count * 8 / (time.monotonic() - start)


@pytest.mark.parametrize(("source", "sink"), [("native", "peer"), ("peer", "native")])
def test_datagrams_arrive_at_the_rate_of_the_wire(network, source, sink):
    """Each way, with preamble, FCS and gap counted, the rate is the wire's within 10 %."""
    stations = network.plan.stations
    assert udp_rate(stations[source], stations[sink]) == pytest.approx(50e6, rel=0.1)


def test_what_the_wire_has_no_room_for_is_accounted_for(network):
    """Of 3000 frames written at once to a slow wire's bridge, each was carried or counted as dropped by its queue."""
    plan = network.plan
    octets = [bytes.fromhex(text.replace(":", "")) for text in (plan.peer.mac, plan.guest.mac)]
    for _ in range(3000):
        os.write(network.host_tap, b"".join(octets) + b"\x88\xb5" + bytes(1500))
    deadline = time.monotonic() + 3
    while True:
        wire = link_statistics(network.record)["host/wire0"]
        if wire.tx_packets + wire.queue_drops == 3000 or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    assert wire.tx_packets + wire.queue_drops == 3000
    assert wire.lost == wire.queue_drops > 0


def test_tcp_fills_the_wire_with_real_frames(network):
    """TCP gets 95 % or more of what Ethernet leaves it (1448 of 1538 bytes); no frame is larger than the MTU's."""
    stations = network.plan.stations
    best = 50e6 * 1448 / (1514 + ETHERNET_OVERHEAD)
    assert 0.95 * best <= tcp_rate(stations["native"], stations["peer"]) <= 1.02 * best
    wire = link_statistics(network.record)["host/wire0"]
    assert wire.tx_bytes / wire.tx_packets <= 1514
    assert wire.tx_bytes / wire.tx_packets > 1400


def test_the_rate_changes_live(network):
    """set_link_rate takes effect on a running network, down, and up to no limit at all."""
    stations = network.plan.stations
    set_link_rate(network.record, parse_rate("10mbit"))
    assert udp_rate(stations["native"], stations["peer"]) == pytest.approx(10e6, rel=0.1)
    set_link_rate(network.record, None)
    set_link_rate(network.record, None)
    assert udp_rate(stations["native"], stations["peer"]) > 60e6


@pytest.mark.parametrize("text", ["64kbit", "34gbit", "40gbit", "400gbit"])
def test_the_kernel_takes_every_legal_rate(network, text):
    """Both ends of the range, and rates beyond the 32-bit field, are accepted and still carry frames."""
    set_link_rate(network.record, parse_rate(text))
    peer, native = network.plan.peer, network.plan.native
    with opened(peer, socket.SOCK_DGRAM) as receiver, opened(native, socket.SOCK_DGRAM) as sender:
        receiver.bind((peer.address, 0))
        sender.sendto(bytes(PAYLOAD), receiver.getsockname())
        assert len(receiver.recv(2048)) == PAYLOAD
