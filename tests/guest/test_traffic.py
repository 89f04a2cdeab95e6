"""Traffic between a stock guest and the peer, in every mode: all of it arrives, in both directions, unchanged."""

from __future__ import annotations

import hashlib
import random
import socket

import pytest

from lab.load import iperf3
from lab.load.ping import ping
from lab.load.place import find_program, first_line, started
from tests.guest.machine import StockGuest, listening

SECONDS = 2
CONTENT_BYTES = 1_000_000
UDP_RATE = 4_000_000


def iperf(guest: StockGuest, options: str) -> dict:
    """The report of an iperf3 client in the guest; its server is at the peer."""
    program = find_program("iperf3", "iperf3")
    with started([program, "-s", "-1", "-B", guest.peer.address, "--forceflush"], guest.peer) as server:
        while "listening" not in first_line(server, "iperf3 server", 10):
            pass
        answer = guest.console.run(f"iperf3 -c {guest.peer.address} -J -t {SECONDS} {options}", SECONDS + 20)
    return iperf3.parse(answer.output)


@pytest.mark.parametrize("size", [56, 1472])
def test_pings_from_outside(guest, size):
    """A hundred echo requests from the peer, small or as long as a frame can be, are all answered."""
    result = ping(guest.peer, guest.plan.guest.address, count=100, interval=0.01, payload_bytes=size)
    assert (result.sent, result.lost) == (100, 0)


@pytest.mark.parametrize("options", ["", "-R"], ids=["guest sends", "guest receives"])
def test_tcp(guest, options):
    """A TCP connection carries megabytes, and sender and receiver agree on how many."""
    end = iperf(guest, options)["end"]
    assert end["sum_received"]["bytes"] > 1_000_000
    assert end["sum_received"]["bytes"] == pytest.approx(end["sum_sent"]["bytes"], rel=0.25)


def test_tcp_both_ways_at_once(guest):
    """Both directions at the same time: neither starves."""
    end = iperf(guest, "--bidir")["end"]
    assert end["sum_received"]["bytes"] > 100_000
    assert end["sum_received_bidir_reverse"]["bytes"] > 100_000


@pytest.mark.parametrize("options", ["", "-R"], ids=["guest sends", "guest receives"])
def test_udp(guest, options):
    """Datagrams at a rate that every mode can carry: (nearly) none is lost, none comes twice or out of turn."""
    result = iperf3.udp_result(iperf(guest, f"-u -b {UDP_RATE} -l 1400 {options}"))
    assert result.sent > 500
    assert result.lost <= result.sent // 100
    assert result.out_of_order == 0


def test_content_that_the_guest_sends(guest):
    """A megabyte of random bytes arrives at the peer as the guest has it, by its checksum."""
    with listening(guest.plan.peer) as server:
        port = server.getsockname()[1]
        guest.check(f"head -c {CONTENT_BYTES} /dev/urandom >/tmp/content")
        guest.check(f"(nc peer {port} </tmp/content >/dev/null 2>&1 &)")
        connection, _ = server.accept()
        found, size = _digest(connection)
    assert size == CONTENT_BYTES
    assert guest.check("sha256sum </tmp/content; rm /tmp/content").split()[0] == found


def test_content_that_the_guest_receives(guest):
    """A megabyte of random bytes arrives in the guest as the peer has it, by its checksum."""
    content = random.Random(970).randbytes(CONTENT_BYTES)
    with listening(guest.plan.peer) as server:
        port = server.getsockname()[1]
        work = f"nc peer {port} </dev/null | sha256sum >/tmp/sum; mv /tmp/sum /tmp/done"
        guest.check(f"({work}) >/dev/null 2>&1 &")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(20)
            connection.sendall(content)
    found = guest.check("while [ ! -e /tmp/done ]; do sleep 0.1; done; cat /tmp/done; rm /tmp/done", 20)
    assert found.split()[0] == hashlib.sha256(content).hexdigest()


def _digest(connection: socket.socket) -> tuple[str, int]:
    """Checksum and size of everything that comes until the other end closes."""
    digest, size = hashlib.sha256(), 0
    with connection:
        connection.settimeout(20)
        while data := connection.recv(65536):
            digest.update(data)
            size += len(data)
    return digest.hexdigest(), size
