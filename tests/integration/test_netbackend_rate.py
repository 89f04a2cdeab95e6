"""The wire's rate, measured: with datagrams and with TCP, each way, and after a live change."""

from __future__ import annotations

import os
import socket
import threading
import time
from itertools import pairwise

import pytest

from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.rate import ETHERNET_OVERHEAD, parse_rate
from netbackend.topology import build, link_statistics, set_link_rate

PAYLOAD = 1472  # bytes of UDP in a full frame
ON_THE_WIRE = PAYLOAD + 8 + 20 + 14 + ETHERNET_OVERHEAD
SECONDS = 1.0
WINDOW = 0.1


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


def rates_between(marks):
    """(mean rate, rate of the second best window) from (count, time) marks.

    A host that takes the CPU away for a while makes windows slow, and one beside it fast; the wire itself shows in the
    mean, which it must not exceed, and in what it carries while the machine lets it.
    """
    windows = sorted((b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(marks))
    return (marks[-1][0] - marks[0][0]) / (marks[-1][1] - marks[0][1]), windows[-2]


def udp_rates(source, sink):
    """``rates_between`` in bits per second on the wire, at ``sink`` when ``source`` sends all it can."""
    with opened(source, socket.SOCK_DGRAM) as sender:
        until = time.monotonic() + SECONDS + 0.5
        worker = threading.Thread(target=flood, args=(sender, (sink.address, 9), until))
        worker.start()
        time.sleep(0.3)
        marks = [received(sink)]
        while marks[-1][1] < marks[0][1] + SECONDS:
            time.sleep(WINDOW)
            marks.append(received(sink))
        worker.join()
    return tuple(rate * ON_THE_WIRE * 8 for rate in rates_between(marks))


def pour(sender, until):
    """Writes to a TCP connection until the time is up, then ends it."""
    with sender:
        while time.monotonic() < until:
            sender.sendall(bytes(65536))


def tcp_rates(source, sink):
    """``rates_between`` of TCP's payload from ``source`` to ``sink``, in bits per second, its start left out."""
    with opened(sink, socket.SOCK_STREAM) as listener:
        listener.bind((sink.address, 0))
        listener.listen()
        sender = opened(source, socket.SOCK_STREAM)
        sender.connect(listener.getsockname())
        worker = threading.Thread(target=pour, args=(sender, time.monotonic() + SECONDS + 1))
        worker.start()
        receiver, _ = listener.accept()
        with receiver:
            rates = received_rates(receiver)
            while receiver.recv(1 << 16):
                pass
        worker.join()
    return rates


def received_rates(receiver):
    """``rates_between`` of what arrives, from half a second after the start."""
    begin = time.monotonic() + 0.5
    while time.monotonic() < begin:
        receiver.recv(1 << 16)
    marks = [(0, time.monotonic())]
    count = 0
    while marks[-1][1] < marks[0][1] + SECONDS:
        count += 8 * len(receiver.recv(1 << 16))
        if time.monotonic() > marks[-1][1] + WINDOW:
            marks.append((count, time.monotonic()))
    return rates_between(marks)


@pytest.mark.parametrize(("source", "sink"), [("native", "peer"), ("peer", "native")])
def test_datagrams_arrive_at_the_rate_of_the_wire(network, source, sink):
    """Each way, with preamble, FCS and gap counted, the rate is the wire's within 10 %."""
    stations = network.plan.stations
    mean, good = udp_rates(stations[source], stations[sink])
    assert mean <= 1.02 * 50e6
    assert good == pytest.approx(50e6, rel=0.1)


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
    mean, good = tcp_rates(stations["native"], stations["peer"])
    assert mean <= 1.02 * best
    assert good >= 0.95 * best
    wire = link_statistics(network.record)["host/wire0"]
    assert wire.tx_bytes / wire.tx_packets <= 1514
    assert wire.tx_bytes / wire.tx_packets > 1400


def test_the_rate_changes_live(network):
    """set_link_rate takes effect on a running network, down, and up to no limit at all."""
    stations = network.plan.stations
    set_link_rate(network.record, parse_rate("10mbit"))
    mean, good = udp_rates(stations["native"], stations["peer"])
    assert mean <= 1.02 * 10e6
    assert good == pytest.approx(10e6, rel=0.1)
    set_link_rate(network.record, None)
    set_link_rate(network.record, None)
    assert udp_rates(stations["native"], stations["peer"])[1] > 60e6


@pytest.mark.parametrize("text", ["64kbit", "34gbit", "40gbit", "400gbit"])
def test_the_kernel_takes_every_legal_rate(network, text):
    """Both ends of the range, and rates beyond the 32-bit field, are accepted and still carry frames."""
    set_link_rate(network.record, parse_rate(text))
    peer, native = network.plan.peer, network.plan.native
    with opened(peer, socket.SOCK_DGRAM) as receiver, opened(native, socket.SOCK_DGRAM) as sender:
        receiver.bind((peer.address, 0))
        sender.sendto(bytes(PAYLOAD), receiver.getsockname())
        assert len(receiver.recv(2048)) == PAYLOAD
