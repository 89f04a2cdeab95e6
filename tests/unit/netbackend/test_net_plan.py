"""The plan of a network: names and addresses that the kernel takes, all different, all in the lab's range."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import ConfigError
from netbackend import plan as plan_module
from netbackend.namespaces import check_stack_name
from netbackend.plan import MAC_PREFIX, NetworkPlan
from netbackend.tap import check_interface_name

STACK_NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")


def macs(plan):
    """Every MAC of a plan."""
    return [s.mac for s in plan.stations.values()] + [plan.host_tap_mac, plan.wire_mac, plan.native_port_mac]


@given(STACK_NAMES)
def test_macs_are_local_unicast_and_all_different(stack):
    """No two interfaces share a MAC, the virtual NIC and the host's TAP least of all; none claims a vendor's."""
    plan = NetworkPlan(stack)
    found = macs(plan)
    assert len(set(found)) == len(found)
    for mac in found:
        octets = bytes.fromhex(mac.replace(":", ""))
        assert len(octets) == 6
        assert octets[0] & 3 == 2
        assert mac.startswith(MAC_PREFIX)


@given(STACK_NAMES)
def test_namespaces_carry_the_stacks_name_and_differ(stack):
    """Each machine has a namespace of its own, and its name tells which stack it belongs to."""
    names = [station.namespace for station in NetworkPlan(stack).stations.values()]
    assert names == [f"ws-{stack}-{role}" for role in ("host", "guest", "peer", "native")]


def test_addresses_are_distinct_and_in_the_benchmark_range():
    """All addresses lie in 198.18.0.0/15 and in one subnet; the documented ones don't move."""
    stations = NetworkPlan("demo").stations
    addresses = {role: station.address for role, station in stations.items()}
    assert addresses == {"host": "198.18.0.1", "guest": "198.18.0.2", "peer": "198.18.0.3", "native": "198.18.0.4"}
    assert all(ipaddress.ip_address(a) in ipaddress.ip_network("198.18.0.0/15") for a in addresses.values())


def test_ipv6_addresses_are_the_benchmark_ranges_too():
    """RFC 5180's 2001:2::/48, each with the last number of the station's IPv4 address."""
    stations = NetworkPlan("demo").stations
    addresses = {role: station.address6 for role, station in stations.items()}
    assert addresses == {"host": "2001:2::1", "guest": "2001:2::2", "peer": "2001:2::3", "native": "2001:2::4"}
    assert all(ipaddress.ip_address(a) in ipaddress.ip_network("2001:2::/48") for a in addresses.values())


def test_interface_names_are_legal():
    """The kernel takes every interface name of a plan."""
    for name in (plan_module.BRIDGE, plan_module.HOST_TAP, plan_module.NATIVE_PORT, plan_module.WIRE):
        assert check_interface_name(name) == name
    for station in NetworkPlan("demo").stations.values():
        check_interface_name(station.interface)


def test_two_stacks_have_different_macs():
    """Captures of two stacks can be told apart."""
    assert not set(macs(NetworkPlan("a"))) & set(macs(NetworkPlan("b")))


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 33, "a b", "a\n", "ä"])
def test_a_stack_name_that_would_leave_its_directory_or_shell_word_is_refused(name):
    """Only short words of a-z, 0-9 and '-' name stacks."""
    with pytest.raises(ConfigError, match="stack name"):
        NetworkPlan(name)


@pytest.mark.parametrize("mtu", [-1, 0, 67, 1501, 9000])
def test_an_mtu_that_a_lance_cannot_carry_is_refused(mtu):
    """MTUs run from 68 to 1500."""
    with pytest.raises(ConfigError, match="68 to 1500"):
        NetworkPlan("demo", mtu=mtu)


@given(st.text(max_size=20))
def test_any_name_is_either_safe_or_a_config_error(name):
    """No text slips through the two name checks with a slash, a space or a template in it."""
    for check in (check_stack_name, check_interface_name):
        try:
            check(name)
        except ConfigError:
            continue
        assert not set(name) & set("/ %\n\0")
        assert name not in {".", ".."}
