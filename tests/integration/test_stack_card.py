"""What the guest's kernel is told, its card does: groups, promiscuous mode, MAC, MTU, VLANs, IPv6, up and down."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from contextlib import contextmanager

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from guest.interface import hash_filter
from machine.lance.state import CSR
from netbackend import links, namespaces
from netbackend.linkwatch import LinkWatch
from netbackend.plan import STATION_INTERFACE
from netbackend.tap import open_tap
from tests.kit.frames import ETHERTYPE, PacketSocket, mac_bytes, numbered
from tests.kit.programs import ping
from tests.kit.spaces import one_namespace
from tests.kit.stack import eventually, running

SETUPS = {
    "linux22": {},
    "linux22-optimised": {"mode": "optimised"},
    "napi": {"driver": "napi", "profile": "fast"},
}
DOORBELLS = {
    "signal": {"doorbell": "signal"},
    "semaphore": {"doorbell": "semaphore", "mode": "optimised", "hlt": "vmm"},
    "spin": {"doorbell": "spin", "driver": "napi", "profile": "fast"},
}
GROUP = "239.1.2.3"
GROUP_MAC = bytes.fromhex("01005e010203")
OTHER_MAC = bytes.fromhex("0257530000ee")
NOTICED_S = 2.5  # the look once a second, and what a busy machine adds
PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST, PACKET_MR_PROMISC = 1, 0, 1
SOL_PACKET = 263
IFF_PROMISC, IFF_ALLMULTI = 0x100, 0x200
VLAN, VLAN_ID = "vlan5", 5
ETH_P_ALL, ETH_P_8021Q, TEST_TYPE = 0x0003, 0x8100, ETHERTYPE.to_bytes(2, "big")
PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 8, 1 << 4


@pytest.fixture(scope="module", params=SETUPS)
def bed(request):
    """A stack with each driver, and each way for its accesses to the card to be carried out."""
    with running(**SETUPS[request.param]) as made:
        yield made


@pytest.fixture
def elsewhere():
    """The name of one more namespace."""
    with one_namespace("elsewhere") as name:
        yield name


@contextmanager
def configured(bed, role="guest", **attributes):
    """The guest's interface (or another station's) set otherwise while the block runs."""
    station = bed.plan.stations[role]

    def change(values):
        with links.session() as connection:
            links.configure(connection, station.interface, **values)

    namespaces.run(station.namespace, lambda: change(attributes))
    try:
        yield
    finally:
        kept = {"address": station.mac, "mtu": bed.plan.mtu, "state": "up"}
        namespaces.run(station.namespace, lambda: change({key: kept[key] for key in attributes}))


@contextmanager
def flagged(bed, flag):
    """The guest's interface with a flag that a user sets (``ip link set eth0 promisc on``) while the block runs."""

    def change(value):
        with links.session() as connection:
            links.configure(connection, STATION_INTERFACE, flags=value, change=flag)

    namespaces.run(bed.plan.guest.namespace, lambda: change(flag))
    try:
        yield
    finally:
        namespaces.run(bed.plan.guest.namespace, lambda: change(0))


def csr(bed, number):
    """A register of the card, as it is now."""
    return bed.stack.lance[CSR + number]


def ladrf(bed):
    """The card's multicast filter."""
    return sum(csr(bed, 8 + i) << 16 * i for i in range(4))


def mtu(bed):
    """The MTU of the guest's interface."""

    def read():
        watch = LinkWatch(socket.if_nametoindex(STATION_INTERFACE))
        try:
            return watch.look().mtu
        finally:
            watch.close()

    return namespaces.run(bed.plan.guest.namespace, read)


@contextmanager
def listening(bed, kind, address):
    """A packet socket in the guest that asks its kernel for more than it hears anyway."""
    with PacketSocket.of(bed.plan.guest) as guest:
        index = namespaces.run(bed.plan.guest.namespace, lambda: socket.if_nametoindex(STATION_INTERFACE))
        request = struct.pack("iHH8s", index, kind, len(address), address)
        guest.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        yield guest


def udp(station, port=0):
    """A UDP socket on a station."""
    made = namespaces.run(station.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind(("", port))
    made.settimeout(2)
    return made


def ping6(bed, source, address):
    """How many of three echo requests are answered."""
    out = bed.spawn(source, "ping", "-6", "-n", "-q", "-c", "3", "-i", "0.05", "-W", "2", address)
    text, _ = out.communicate(timeout=20)
    return int(text.split(" received")[0].split()[-1])


def link_local(station):
    """The address that the station's kernel has made of its MAC (RFC 4291, appendix A), on its own interface."""
    octets = mac_bytes(station.mac)
    eui = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("fe80000000000000") + eui)


def test_a_group_that_a_program_joins_arrives(bed):
    """Ten datagrams to a group from the peer: all ten arrive once the guest's program has joined, none before."""
    member = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(bed.plan.guest.address))
    with udp(bed.plan.guest, 5007) as guest, udp(bed.plan.peer) as peer:
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(bed.plan.peer.address))
        with bed.measured() as cost:
            peer.sendto(b"early", (GROUP, 5007))
        assert cost.counters["rx_filtered"] == 1
        assert cost.counters["rx_frames"] == 0
        guest.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        bit = hash_filter(frozenset({GROUP_MAC}))
        assert eventually(lambda: ladrf(bed) & bit, NOTICED_S)
        for number in range(10):
            peer.sendto(b"%d" % number, (GROUP, 5007))
        assert [guest.recv(100) for _ in range(10)] == [b"%d" % number for number in range(10)]
    assert eventually(lambda: not ladrf(bed) & bit, NOTICED_S)


def test_a_group_that_nobody_announces_arrives(bed):
    """A packet socket's membership is announced by no kernel: the look once a second finds it, and its end."""
    before = ladrf(bed)
    frame = numbered(GROUP_MAC, mac_bytes(bed.plan.peer.mac), 1)
    with PacketSocket.of(bed.plan.peer) as peer, listening(bed, PACKET_MR_MULTICAST, GROUP_MAC) as guest:
        assert eventually(lambda: ladrf(bed) == before | hash_filter(frozenset({GROUP_MAC})), NOTICED_S)
        peer.send(frame)
        assert guest.receive(1, 2.0) == [frame]
    assert eventually(lambda: ladrf(bed) == before, NOTICED_S)


def test_promiscuous_and_all_multicast(bed):
    """A sniffer in the guest sees frames for others, from the moment it asks; all-multicast brings every group."""
    peer_mac = mac_bytes(bed.plan.peer.mac)
    stray = numbered(OTHER_MAC, peer_mac, 1)
    with PacketSocket.of(bed.plan.peer) as peer:
        with listening(bed, PACKET_MR_PROMISC, b"") as guest:
            assert eventually(lambda: csr(bed, 15) == 0x8000, NOTICED_S)
            for _ in range(10):
                peer.send(stray)
            assert guest.receive(10, 2.0) == [stray] * 10
        assert eventually(lambda: csr(bed, 15) == 0, NOTICED_S)
        with PacketSocket.of(bed.plan.guest) as guest:
            with bed.measured() as cost:
                peer.send(stray)
            assert cost.counters["rx_filtered"] == 1
            before = ladrf(bed)
            group = numbered(GROUP_MAC, peer_mac, 2)
            with flagged(bed, IFF_ALLMULTI):
                assert eventually(lambda: ladrf(bed) == (1 << 64) - 1, NOTICED_S)
                peer.send(group)
                assert guest.receive(1, 2.0) == [group]
            assert eventually(lambda: ladrf(bed) == before, NOTICED_S)


PAIRS = [("guest", "peer"), ("peer", "guest"), ("guest", "native"), ("native", "guest"), ("peer", "native")]


@pytest.mark.parametrize(("source", "sink"), PAIRS)
def test_ipv6(bed, source, sink):
    """Neighbours find each other and answer: 3 of 3 by address of the plan, 3 of 3 by link-local address."""
    assert ping6(bed, source, bed.plan.stations[sink].address6) == 3
    local = f"{link_local(bed.plan.stations[sink])}%{bed.plan.stations[source].interface}"
    assert ping6(bed, source, local) == 3


def test_a_new_mac_is_taken_over(bed):
    """A MAC set while the interface is up is the card's at once: the guest goes on talking under it."""
    with configured(bed, address=OTHER_MAC.hex(":")):
        assert eventually(lambda: csr(bed, 12) == 0x5702 and csr(bed, 14) == 0xEE00, NOTICED_S)
        with PacketSocket.of(bed.plan.peer) as peer, PacketSocket.of(bed.plan.guest) as guest:
            frame = numbered(OTHER_MAC, mac_bytes(bed.plan.peer.mac), 3)
            peer.send(frame)
            assert guest.receive(1, 2.0) == [frame]
        assert ping(bed, "guest", "peer", 5) == 5
    expected = int.from_bytes(mac_bytes(bed.plan.guest.mac)[4:], "little")
    assert eventually(lambda: csr(bed, 14) == expected, NOTICED_S)
    assert ping(bed, "guest", "peer", 5) == 5


def test_an_mtu_that_the_card_cannot_carry_is_set_back(bed):
    """9000 is 1500 again at once; a smaller one stays. Frames that are sent too long meanwhile are counted, not cut."""
    with configured(bed, mtu=9000):
        assert eventually(lambda: mtu(bed) == 1500, NOTICED_S)
    with configured(bed, mtu=1400):
        time.sleep(0.2)
        assert mtu(bed) == 1400
    guest_mac, peer_mac = mac_bytes(bed.plan.guest.mac), mac_bytes(bed.plan.peer.mac)
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        with bed.stopped("guest"):  # its TAP is not read until the MTU is back
            guest.socket.setsockopt(SOL_PACKET, 20, 1)  # PACKET_QDISC_BYPASS: into the TAP before configured() returns
            sent = send_while_long(bed, guest, numbered(peer_mac, guest_mac, 5, 4000))
            assert eventually(lambda: mtu(bed) == 1500, NOTICED_S)
        whole = numbered(peer_mac, guest_mac, 6, 1514)
        guest.send(whole)
        assert peer.receive(1, 2.0) == [whole]
    assert cost.counters["guest_tx_too_long"] == sent > 0
    assert cost.counters["guest_tap_reads"] == cost.counters["tx_frames"] == 1


def send_while_long(bed, guest, frame):
    """Sends as many long frames as the kernel takes between an MTU of 9000 and the one that is set back."""

    def race():
        sent = 0
        with links.session() as connection:
            index = links.existing(connection, STATION_INTERFACE).index
            for _ in range(200):
                connection.link("set", index=index, mtu=9000)
                try:
                    guest.send(frame)
                    sent += 1
                except OSError:  # EMSGSIZE: it is back already
                    continue
                if sent == 3:
                    break
        return sent

    return namespaces.run(bed.plan.guest.namespace, race)


def tagged(destination, source, number, size):
    """A frame with a VLAN tag that carries ``number`` and bytes that tell whether they are all there."""
    head = numbered(destination, source, number)
    tag = struct.pack("!HH", ETH_P_8021Q, VLAN_ID)
    return (head[:12] + tag + head[12:18]).ljust(size - 1, b"\x5a") + b"\xa5"


def receive_tagged(packets, count):
    """Frames as they were on the wire: a kernel takes the tag out and tells it beside the frame (PACKET_AUXDATA)."""
    found = []
    deadline = time.monotonic() + 3
    packets.socket.settimeout(0.2)
    while len(found) < count and time.monotonic() < deadline:
        try:
            frame, ancillary, _, address = packets.socket.recvmsg(4096, 256)
        except TimeoutError:
            continue
        status, *_, tci, tpid = struct.unpack("IIIHHHH", ancillary[0][2])
        if address[2] != socket.PACKET_OUTGOING and status & TP_STATUS_VLAN_VALID and frame[12:14] == TEST_TYPE:
            found.append(frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:])
    return found


@pytest.mark.parametrize(("source", "sink"), [("guest", "peer"), ("peer", "guest")])
@pytest.mark.parametrize("size", [64, 1514, 1515, 1518])
def test_vlan_frames_are_carried_whole(bed, source, sink, size):
    """Frames with a tag, 1518 bytes the longest, arrive with every byte that they were sent with, each way."""
    stations = bed.plan.stations
    frames = [tagged(mac_bytes(stations[sink].mac), mac_bytes(stations[source].mac), n, size) for n in range(5)]
    with PacketSocket.of(stations[source]) as sender, PacketSocket.of(stations[sink], ETH_P_ALL) as receiver:
        receiver.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        for frame in frames:
            sender.send(frame)
        assert receive_tagged(receiver, len(frames)) == frames
    assert bed.counters()["guest_rx_errors"] == 0


@pytest.fixture
def vlan(bed):
    """The same VLAN on top of the guest's and the peer's interface, with an MTU of 1500 of its own."""
    addresses = {"guest": "198.19.5.2", "peer": "198.19.5.3"}
    for role, address in addresses.items():

        def make(address=address):
            with links.session() as connection:
                base = links.existing(connection, STATION_INTERFACE).index
                try:
                    connection.link("add", ifname=VLAN, kind="vlan", link=base, vlan_id=VLAN_ID)
                except NetlinkError as error:
                    if error.code == errno.EOPNOTSUPP:
                        pytest.skip("this kernel has no VLAN devices (modprobe 8021q)")
                    raise
                links.offloads_off(VLAN)
                links.configure(connection, VLAN, mtu=1500, state="up")
                links.add_address(connection, VLAN, address, 24)

        namespaces.run(bed.plan.stations[role].namespace, make)
    yield addresses
    for role in addresses:

        def unmake():
            with links.session() as connection:
                links.delete(connection, links.existing(connection, VLAN))

        namespaces.run(bed.plan.stations[role].namespace, unmake)


@pytest.mark.parametrize(("source", "sink"), [("guest", "peer"), ("peer", "guest")])
def test_a_vlan_interface_on_the_guests(bed, vlan, source, sink):
    """802.1Q with 1500 bytes of IP: echo requests that must not be fragmented are all answered."""
    words = ("ping", "-n", "-q", "-c", "5", "-i", "0.05", "-W", "2", "-M", "do", "-s", "1472", vlan[sink])
    assert "5 received" in bed.call(source, *words)


def test_down_and_up_under_traffic(bed):
    """Twenty times down and up while the guest is pinged: afterwards nothing is lost, and down means deaf."""
    guest = bed.plan.guest
    flood = bed.spawn("peer", "ping", "-n", "-q", "-i", "0.002", "-w", "60", guest.address)
    try:
        for turn in range(20):
            with configured(bed, state="down"):
                assert eventually(lambda: csr(bed, 0) & 0x30 == 0, NOTICED_S), turn
            assert eventually(lambda: csr(bed, 0) & 0x30 == 0x30, NOTICED_S), turn
    finally:
        flood.send_signal(2)
        flood.communicate(timeout=10)
    bed.alive()

    def give_address_back():  # a kernel takes IPv6 addresses that are not its own away with the interface
        with links.session() as connection:
            links.add_address(connection, guest.interface, guest.address6, 64)

    namespaces.run(guest.namespace, give_address_back)
    bed.settle()
    assert ping(bed, "guest", "peer", 20) == 20
    assert ping(bed, "peer", "guest", 20) == 20
    assert ping6(bed, "peer", guest.address6) == 3


def test_an_interface_that_is_moved_away_and_back(bed, elsewhere):
    """It comes back under another index, down: set up again, it talks, and its card does what the kernel wants."""
    guest = bed.plan.guest

    def move(here, there):
        def set_it():
            with links.session() as connection:
                connection.link("set", index=links.existing(connection, guest.interface).index, net_ns_fd=there)

        namespaces.run(here, set_it)

    def index():
        return namespaces.run(guest.namespace, lambda: socket.if_nametoindex(guest.interface))

    before = index()
    taken = [namespaces.run(elsewhere, lambda n=n: open_tap(f"taken{n}")) for n in range(before + 1)]
    move(guest.namespace, elsewhere)
    time.sleep(1.2)  # the guest looks, and finds nothing
    bed.alive()
    move(elsewhere, guest.namespace)
    for descriptor in taken:
        os.close(descriptor)
    assert index() != before

    def set_up():
        with links.session() as connection:
            links.configure(connection, guest.interface, state="up")
            links.add_address(connection, guest.interface, guest.address, 24)
            links.add_address(connection, guest.interface, guest.address6, 64)

    namespaces.run(guest.namespace, set_up)
    assert eventually(lambda: csr(bed, 0) & 0x30 == 0x30, NOTICED_S)
    assert ping(bed, "guest", "peer", 3) == 3
    with flagged(bed, IFF_PROMISC):
        assert eventually(lambda: csr(bed, 15) == 0x8000, NOTICED_S)
    with configured(bed, mtu=9000):
        assert eventually(lambda: mtu(bed) == 1500, NOTICED_S)


def test_a_new_filter_loses_no_frame(bed):
    """While groups are joined and left, a stream to the guest and one from it arrive whole and in order."""
    guest_mac, peer_mac = mac_bytes(bed.plan.guest.mac), mac_bytes(bed.plan.peer.mac)
    with PacketSocket.of(bed.plan.guest) as guest, PacketSocket.of(bed.plan.peer) as peer, bed.measured() as cost:
        for number in range(200):
            peer.send(numbered(guest_mac, peer_mac, number))
            guest.send(numbered(peer_mac, guest_mac, number))
            if number % 20 == 10:
                with flagged(bed, IFF_ALLMULTI):
                    time.sleep(0.01)
            time.sleep(0.001)
        arrived = guest.receive(200, 2.0), peer.receive(200, 2.0)
    assert [int.from_bytes(frame[14:18], "big") for frame in arrived[0]] == list(range(200))
    assert [int.from_bytes(frame[14:18], "big") for frame in arrived[1]] == list(range(200))
    assert cost.counters["rx_missed"] == cost.counters["rx_errors"] == cost.counters["guest_rx_errors"] == 0


def test_a_busy_guest_notices(bed):
    """A guest that sends without a pause follows its kernel, too."""
    before = ladrf(bed)
    traffic = bed.spawn("guest", "ping", "-n", "-q", "-f", "-w", "20", bed.plan.peer.address)
    try:
        with listening(bed, PACKET_MR_MULTICAST, GROUP_MAC):
            assert eventually(lambda: ladrf(bed) == before | hash_filter(frozenset({GROUP_MAC})), 2 * NOTICED_S)
    finally:
        traffic.send_signal(2)
        traffic.communicate(timeout=10)
    assert eventually(lambda: ladrf(bed) == before, NOTICED_S)


@pytest.mark.parametrize("settings", DOORBELLS.values(), ids=DOORBELLS)
def test_every_doorbell(settings):
    """With each doorbell the kernel's wish ends the guest's sleep, and the card follows."""
    with running(**settings) as bed:
        bed.settle()
        with flagged(bed, IFF_PROMISC):
            assert eventually(lambda: csr(bed, 15) == 0x8000, NOTICED_S)
        assert eventually(lambda: csr(bed, 15) == 0, NOTICED_S)
        assert ping6(bed, "peer", bed.plan.guest.address6) == 3


def test_an_idle_guest_stays_asleep():
    """Looking at its kernel once a second takes an idle guest no HLT, no trap and no world switch."""
    with running() as bed:
        with bed.measured() as cost:
            time.sleep(3.5)
        assert not cost.ports
        assert cost.counters["hlt"] == cost.counters["guest_tap_reads"] == cost.counters["rx_frames"] == 0


def test_what_was_joined_before_the_start_is_known_from_the_start():
    """The first thing that the card gets is what the kernel has set already: its all-hosts groups."""
    with running() as bed:
        every_host = frozenset({bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")})
        assert ladrf(bed) & hash_filter(every_host) == hash_filter(every_host)
