"""The distribution's own pcnet32 on our Lance, in every mode: what it finds, what it is told to do, what it tests."""

from __future__ import annotations

import re
import time

import pytest

from tests.guest.machine import StockGuest
from tests.kit.frames import PacketSocket, mac_bytes, numbered

SOMEBODY = bytes.fromhex("025753aabbcc")
GROUP = bytes.fromhex("010000000042")
SETTLE_S = 0.3
FRAMES = 30
OTHERS = 10


def pings(guest: StockGuest, count: int = 5) -> None:
    """Every echo request of the guest's is answered."""
    assert " 0% packet loss" in guest.check(f"ping -c {count} -i 0.05 -W 2 peer", 20)


def test_driver_finds_the_chip(guest):
    """It registers a PCnet/PCI II 79C970A with the MAC of the plan, and has nothing to complain about."""
    messages = guest.check("dmesg | grep -i pcnet32")
    assert "registered as PCnet/PCI II 79C970A" in messages
    assert "warning" not in messages.lower()
    assert "CSR address" not in messages
    assert guest.check("cat /sys/class/net/eth0/address").strip() == guest.plan.guest.mac


def test_link_is_up(guest):
    """The driver sees the cable, and the guest reaches the peer without a loss."""
    assert guest.carrier(True)
    pings(guest, 20)


@pytest.mark.parametrize("when", ["online", "offline"])
def test_driver_tests_the_chip(guest, when):
    """`ethtool -t` passes, with the loopback test that it makes offline; the interface works afterwards."""
    assert "The test result is PASS" in guest.check(f"ethtool -t eth0 {when}", 20)
    pings(guest)


def test_registers_are_dumped(guest):
    """`ethtool -d` reads every register the driver knows, and the chip says that it runs."""
    dump = guest.check("ethtool -d eth0")
    assert "TXON" in dump
    assert "BCR35:" in dump
    pings(guest)


def test_interface_goes_down_and_up(guest):
    """Twenty times: closed, opened, and it still carries frames, with the same address."""
    guest.check("for i in $(seq 20); do ip link set eth0 down; ip link set eth0 up; done", 60)
    pings(guest)
    assert "NETDEV WATCHDOG" not in guest.check("dmesg")


@pytest.mark.parametrize(("sent", "received"), [(4, 4), (64, 128), (512, 512), (16, 32)])
def test_rings_change_their_size(guest, sent, received):
    """`ethtool -G`: from the smallest rings to the largest and back to the usual ones, with traffic in between."""
    guest.check(f"ethtool -G eth0 tx {sent} rx {received}")
    current = guest.check("ethtool -g eth0").split("Current hardware settings:")[1]
    assert [int(number) for number in re.findall(r"^(?:RX|TX):\s+(\d+)", current, re.MULTILINE)] == [received, sent]
    pings(guest)


def gets(guest: StockGuest, destination: bytes) -> bool:
    """Whether the guest's kernel gets frames to that address: all of them, or none; a few of others come, too."""
    with PacketSocket.of(guest.plan.peer) as wire:
        before = guest.statistic("rx_packets")
        for number in range(FRAMES):
            wire.send(numbered(destination, mac_bytes(guest.plan.peer.mac), number))
            time.sleep(0.002)
        time.sleep(SETTLE_S)
        seen = guest.statistic("rx_packets") - before
    assert seen < OTHERS or FRAMES <= seen < FRAMES + OTHERS
    return seen >= FRAMES


def test_promiscuous_mode(guest):
    """Frames for somebody else come through in promiscuous mode, and neither before nor after it."""
    assert not gets(guest, SOMEBODY)
    guest.check("ip link set eth0 promisc on")
    assert gets(guest, SOMEBODY)
    guest.check("ip link set eth0 promisc off")
    assert not gets(guest, SOMEBODY)


def test_multicast_filter(guest):
    """Frames for a group come through while the guest is its member; all groups' in all-multicast mode."""
    assert not gets(guest, GROUP)
    guest.check("ip maddress add 01:00:00:00:00:42 dev eth0")
    assert gets(guest, GROUP)
    guest.check("ip maddress del 01:00:00:00:00:42 dev eth0")
    assert not gets(guest, GROUP)
    guest.check("ip link set eth0 allmulticast on")
    assert gets(guest, GROUP)
    guest.check("ip link set eth0 allmulticast off")


def test_cable_is_pulled_from_outside(guest):
    """The driver notices the cable that `set link=down` pulls and `set link=up` plugs in; then frames flow again."""
    guest.change(cable=False)
    assert guest.carrier(False)
    guest.change(cable=True)
    assert guest.carrier(True)
    assert "link down" in guest.check("dmesg | grep eth0 | tail -2")
    pings(guest)


def test_guest_restarts(guest):
    """The guest's kernel starts anew on the same stack: probe, link and traffic are as before."""
    guest.console.reboot()
    test_driver_finds_the_chip(guest)
    test_link_is_up(guest)
