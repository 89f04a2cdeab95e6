"""The network of a stack: that it carries frames as planned, and that it goes without a trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import msgpack
import pytest

from machine.errors import NetworkError, StackError
from netbackend import namespaces, topology
from netbackend.plan import NetworkPlan
from netbackend.topology import build, link_statistics, remove

ETH_P_TEST = 0x88B5  # IEEE 802: local experimental


@pytest.fixture
def plan():
    """A plan whose stack is this test run's alone."""
    return NetworkPlan(f"t{os.getpid()}")


@pytest.fixture
def network(plan):
    """A network without a rate limit."""
    with build(plan, None) as built:
        yield built


def namespaces_of(plan):
    """Those of the plan's namespaces that exist."""
    return [s.namespace for s in plan.stations.values() if namespaces.identity(s.namespace) is not None]


def packet_socket(station):
    """An AF_PACKET socket on a station's interface, for frames of the test's own type."""

    def make():
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_TEST))
        opened.bind((station.interface, ETH_P_TEST))
        opened.settimeout(3)
        return opened

    return namespaces.run(station.namespace, make)


def mac(text):
    """The six octets of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


def frame(destination, source, payload):
    """An Ethernet frame of the test's own type."""
    return mac(destination) + mac(source) + ETH_P_TEST.to_bytes(2, "big") + payload


def read_frame(fd, wanted):
    """The next frame from a TAP for which ``wanted`` holds; fails after 3 s."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            found = os.read(fd, 2048)
        except BlockingIOError:
            time.sleep(0.002)
            continue
        if wanted(found):
            return found
    pytest.fail("no such frame arrived at the TAP")


def echo_once(server, client, payload):
    """Sends a UDP datagram from one station to another and back; the time that took, in seconds."""
    with (
        namespaces.run(server.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener,
        namespaces.run(client.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as caller,
    ):
        for end in (listener, caller):
            end.settimeout(3)
        listener.bind((server.address, 0))
        start = time.monotonic()
        caller.sendto(payload, listener.getsockname())
        data, address = listener.recvfrom(4096)
        listener.sendto(data, address)
        assert caller.recv(4096) == payload
        return time.monotonic() - start


@pytest.mark.parametrize("pair", [("peer", "native"), ("native", "peer"), ("host", "peer"), ("native", "host")])
def test_stations_reach_each_other_at_once(network, pair):
    """Right after build, without waiting for bridge or carrier, any two real stations exchange datagrams."""
    server, client = (network.plan.stations[role] for role in pair)
    assert echo_once(server, client, b"x" * 1472) < 1


def test_a_frame_written_to_the_host_tap_crosses_bridge_and_wire(network):
    """The peer sees the frame as written: the virtual NIC's MAC, not the host TAP's; the answer comes back."""
    plan = network.plan
    with packet_socket(plan.peer) as peer:
        sent = frame("ff:ff:ff:ff:ff:ff", plan.guest.mac, b"from the guest".ljust(46, b"\0"))
        os.write(network.host_tap, sent)
        assert peer.recv(2048) == sent
        answer = frame(plan.guest.mac, plan.peer.mac, b"to the guest".ljust(46, b"\0"))
        peer.send(answer)
        assert read_frame(network.host_tap, lambda found: found[:6] == mac(plan.guest.mac)) == answer


def test_the_guests_stack_sends_under_the_virtual_nics_mac(network):
    """What a program in the guest sends is read from the guest's TAP, whole frames with the NIC's MAC as source."""
    guest = network.plan.guest
    with namespaces.run(guest.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as caller:
        caller.sendto(b"hello", (network.plan.peer.address, 9))
        request = read_frame(network.guest_tap, lambda found: found[12:14] == b"\x08\x06")
    assert (request[:6], request[6:12]) == (b"\xff" * 6, mac(guest.mac))


def test_an_idle_network_is_silent(network):
    """With nobody talking, no link carries a single frame: no router solicitations, no STP, no IGMP queries."""
    time.sleep(1.5)
    carried = {name: (s.rx_packets, s.tx_packets) for name, s in link_statistics(network.record).items()}
    assert len(carried) == 7
    assert set(carried.values()) == {(0, 0)}


def test_statistics_count_frames_and_losses(network):
    """Ten frames in at the host's TAP are ten frames out on the wire and in at the peer, none lost."""
    plan = network.plan
    with packet_socket(plan.peer), packet_socket(plan.native):  # a frame that nobody takes counts as dropped
        for _ in range(10):
            os.write(network.host_tap, frame(plan.peer.mac, plan.guest.mac, bytes(1500)))
        deadline = time.monotonic() + 3
        while link_statistics(network.record)["peer/eth0"].rx_packets < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
    found = link_statistics(network.record)
    assert found["host/tap0"].rx_packets == found["host/wire0"].tx_packets == found["peer/eth0"].rx_packets == 10
    assert found["host/wire0"].tx_bytes == 15140
    assert {name: s for name, s in found.items() if s.lost} == {}


def test_settings_do_not_depend_on_this_machine(network):
    """IPv6 is on and believes no router, congestion control is Reno, no packet filter sees the bridge's frames."""

    def read(name):
        try:
            with open(f"/proc/sys/net/{name}") as file:
                return file.read().strip()
        except FileNotFoundError:
            return None

    wanted = {
        "ipv6/conf/all/disable_ipv6": "0",
        "ipv6/conf/default/accept_ra": "0",
        "ipv6/conf/default/accept_dad": "0",
        "ipv4/tcp_congestion_control": "reno",
        "bridge/bridge-nf-call-iptables": "0",
    }
    for station in network.plan.stations.values():
        for name, value in wanted.items():
            assert namespaces.run(station.namespace, lambda name=name: read(name)) in {value, None}


def test_a_second_stack_of_the_name_is_refused_and_the_first_stays(network):
    """StackError names the namespace and the remedy; nothing of the first network is touched."""
    with pytest.raises(StackError, match=r"ws-t\d+-host exists already; run `worldswitch down`"):
        build(network.plan, None)
    assert echo_once(network.plan.peer, network.plan.native, b"still here") < 1


def test_closing_twice_leaves_nothing(plan):
    """After close no namespace is left and both descriptors are closed; a second close is harmless."""
    network = build(plan, None)
    assert len(namespaces_of(plan)) == 4
    taps = network.guest_tap, network.host_tap
    network.close()
    network.close()
    assert namespaces_of(plan) == []
    for fd in taps:
        with pytest.raises(OSError):
            os.fstat(fd)


@pytest.mark.parametrize("step", ["open_tap", "set_link_rate", "partial"])
@pytest.mark.parametrize("error", [NetworkError("refused"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_nothing(plan, monkeypatch, step, error):
    """Whichever step fails, or is interrupted, everything made before it is removed."""

    def fail(*_):
        raise error

    monkeypatch.setattr(topology, step, fail)
    with pytest.raises(type(error)):
        build(plan, None)
    assert namespaces_of(plan) == []


def test_another_process_removes_it_from_the_record_alone(plan):
    """The record survives msgpack; a process that never built anything removes all of it, twice."""
    saved = []
    network = build(plan, None, save=lambda record: saved.append(msgpack.packb(record)))
    try:
        program = (
            "import sys, msgpack; from netbackend.topology import remove; "
            "record = msgpack.unpackb(sys.stdin.buffer.read()); remove(record); remove(record)"
        )
        assert msgpack.unpackb(saved[-1]) == network.record
        subprocess.run([sys.executable, "-c", program], input=saved[-1], check=True)
        assert namespaces_of(plan) == []
    finally:
        network.close()


def test_links_go_although_a_program_still_lives_in_a_namespace(network):
    """A program that outlives the stack in its namespace keeps no link of it."""
    peer = network.plan.peer
    with namespaces.run(peer.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as outlives:
        network.close()
        with pytest.raises(OSError):
            outlives.sendto(b"x", (network.plan.host.address, 9))


def test_a_strangers_namespace_of_the_same_name_is_not_removed(plan):
    """Removing looks at the namespace's identity: a later one of the same name stays."""
    network = build(plan, None)
    network.close()
    made = namespaces.create(plan.guest.namespace)
    try:
        stale = {**network.record, "namespaces": [{**e, "inode": 1} for e in network.record["namespaces"]]}
        remove(stale)
        assert namespaces.identity(plan.guest.namespace) == made
    finally:
        assert namespaces.remove(plan.guest.namespace, made)


def test_asking_a_network_that_is_gone_is_one_line(plan):
    """Statistics and rates of a removed network are StackErrors, not tracebacks of netlink."""
    network = build(plan, None)
    network.close()
    with pytest.raises(StackError, match="is gone"):
        link_statistics(network.record)
    with pytest.raises(StackError, match="is gone"):
        topology.set_link_rate(network.record, None)
