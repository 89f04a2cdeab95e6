"""Load programs on a real network: that they agree with each other, and that what they compare with works."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time

import psutil
import pytest

from lab.load import iperf3, nettest, vde
from lab.load.cpu import watched
from lab.load.ping import ping
from lab.load.place import Place
from lab.load.relay import relay
from machine.errors import BenchError, StackError
from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.topology import build, link_statistics, remove

LINK = 100_000_000
SIOCGIFHWADDR = 0x8927  # linux/sockios.h
needs_vde = pytest.mark.skipif(not vde.available(), reason="needs vde2")


@pytest.fixture
def network():
    """A network without a rate limit."""
    with build(NetworkPlan(f"t{os.getpid()}"), None) as built:
        yield built


@pytest.fixture
def shaped():
    """A network whose wire is as fast as the paper's."""
    with build(NetworkPlan(f"t{os.getpid()}"), LINK) as built:
        yield built


def places(network, *roles):
    """Places on any CPU."""
    return [Place.of(network.plan.stations[role]) for role in roles]


def mac(station):
    """The MAC that a station's interface really has."""

    def read():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            return fcntl.ioctl(any_socket, SIOCGIFHWADDR, struct.pack("40s", station.interface.encode()))[18:24]

    return namespaces.run(station.namespace, read).hex(":")


def kill(pid):
    """Returns when the process has ended."""
    process = psutil.Process(pid)
    process.kill()
    assert process.wait(5) is not None


@pytest.mark.parametrize("ends", [("native", "peer"), ("peer", "native")])
def test_nettest_and_iperf3_agree(shaped, ends):
    """On a line of 100 Mb/s ours and the public tool find the same goodput, each way, and no more than fits."""
    sender, receiver = places(shaped, *ends)
    ours, theirs = [], []
    for _ in range(4):  # a busy machine slows either down, never up
        found = nettest.measure(sender, receiver, seconds=1, omit=0.2)
        assert found.goodput_mbps == pytest.approx(found.bytes * 8e-6 / found.seconds)
        assert len(found.series) in {1, 2}
        ours.append(found.goodput_mbps)
        theirs.append(iperf3.measure(sender, receiver, seconds=1).goodput_mbps)
        if max(ours) == pytest.approx(max(theirs), rel=0.05):
            break
    assert max(ours) == pytest.approx(max(theirs), rel=0.05), (ours, theirs)
    assert max(ours) < LINK / 1e6  # 94.1: 1448 of each 1538 bytes on the line


def test_nettest_moves_a_chosen_amount(network):
    """Exactly so many bytes, however long that takes; a limit that is too short is an error."""
    sender, receiver = places(network, "native", "peer")
    assert nettest.measure(sender, receiver, total_bytes=1_000_001, operation_bytes=4096).bytes == 1_000_001
    began = time.monotonic()
    with pytest.raises(BenchError, match=r"did not finish within 0.3 s"):
        nettest.measure(sender, receiver, total_bytes=1 << 40, seconds=60, max_seconds=0.3)
    assert time.monotonic() - began < 5


def test_udp_within_the_line_arrives(shaped):
    """At half the line's rate everything arrives, in order; the goodput is the rate that was asked for."""
    sender, receiver = places(shaped, "native", "peer")
    found = iperf3.measure_udp(sender, receiver, LINK // 2, seconds=1)
    assert (found.lost, found.out_of_order) == (0, 0)
    assert found.goodput_mbps == pytest.approx(LINK / 2e6, rel=0.05)


def test_the_relay_joins_the_taps(network):
    """Guest and peer reach each other by the relay alone; its CPU time is accounted; it ends with the block."""
    guest, peer = places(network, "guest", "peer")
    with relay(network.guest_tap, network.host_tap, (0,)) as pids:
        process = psutil.Process(pids["relay"])
        assert (process.name(), process.cpu_affinity()) == ("relay", [0])
        assert ping(guest, peer.address, count=5, interval=0.01).lost == 0
        with watched((0,), pids) as use:
            assert nettest.measure(guest, peer, seconds=1).goodput_mbps > 10
        assert use.processes["relay"].total > 0
    assert not process.is_running()
    lost = ping(guest, peer.address, count=2, interval=0.01)
    assert (lost.sent, lost.lost, lost.rtts_ms) == (2, 2, ())


def test_a_relay_that_dies_is_noticed(network):
    """A comparison without its relay would be a figure of nothing."""
    running = relay(network.guest_tap, network.host_tap)
    kill(running.__enter__()["relay"])
    with pytest.raises(BenchError, match="relay ended early"):
        running.__exit__(None, None, None)


@needs_vde
def test_vde_joins_the_taps(network):
    """Guest and peer reach each other by VDE's three processes; then the TAPs are ours again, and the same."""
    guest, peer = places(network, "guest", "peer")
    with vde.vde(network) as pids:
        assert [psutil.Process(pid).name() for pid in pids.values()] == ["vde_switch", "vde_plug2tap", "vde_plug2tap"]
        assert ping(guest, peer.address, count=5, interval=0.01).lost == 0
        assert nettest.measure(peer, guest, seconds=0.5).bytes > 0
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    with relay(network.guest_tap, network.host_tap):
        assert ping(guest, peer.address, count=5, interval=0.01).lost == 0
    assert mac(network.plan.guest) == network.plan.guest.mac


@needs_vde
def test_a_part_of_vde_that_dies_is_noticed(network):
    """When the switch ends, so do the plugs, and the measurement; the TAPs come back all the same."""
    running = vde.vde(network)
    kill(running.__enter__()["switch"])
    with pytest.raises(BenchError, match="VDE's switch ended early"):
        running.__exit__(None, None, None)
    assert link_statistics(network.record)["guest/eth0"].lost == 0
    assert os.fstat(network.guest_tap)


def test_lent_taps_are_still_in_the_record(network):
    """Whoever removes a network from its record also removes TAPs that nobody has open."""
    guest = network.plan.guest
    lent = network.lent_taps()
    lent.__enter__()
    with namespaces.run(guest.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as inside:
        assert fcntl.ioctl(inside, SIOCGIFHWADDR, struct.pack("40s", b"eth0"))[18:24].hex(":") == guest.mac
        remove(network.record)
        with pytest.raises(OSError, match="No such device"):
            fcntl.ioctl(inside, SIOCGIFHWADDR, struct.pack("40s", b"eth0"))
    with pytest.raises(StackError, match="no network namespace"):
        lent.__exit__(None, None, None)
