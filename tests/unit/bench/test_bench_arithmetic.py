"""What benchmarks compute from what they read: costs of a packet, losses, shares, spreads."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.samples import median
from lab.bench.tables import percent, spread, table
from lab.bench.throughput import disagreement
from lab.bench.transfer import UNITS, losses, per_packet
from lab.bench.window import Observed, Window, idle_share, received_and_sent
from lab.load.cpu import CpuShare, CpuUse
from machine.errors import BenchError
from netbackend.links import LinkStatistics
from tests.kit.benches import LONE_PACKET

NO_LOSS = LinkStatistics(**{field.name: 0 for field in dataclasses.fields(LinkStatistics)})
NET_DEV = """\
Inter-|   Receive                                         |  Transmit
 face |bytes packets errs drop fifo frame compressed mcast|bytes packets errs drop fifo colls carrier compressed
    lo:    0       0    0    0    0     0          0     0      7      0    0    0    0     0       0          0
  eth0:12345678    9    0    0    0     0          0     0   4711      8    0    0    0     0       0          0
"""
finite = st.floats(0, 1e6)


def test_the_papers_packet_costs_twelve_port_accesses():
    """The 8259A's accesses are traps, but not accesses to the Lance; HLT is a trap."""
    costs = per_packet(LONE_PACKET)
    assert costs["port_accesses_per_packet"] == 12
    assert costs["traps_per_packet"] == 18
    assert costs["io_switches_per_packet"] == 5
    assert costs["pic_accesses_per_irq"] == 5


def test_rap_without_a_trap_is_a_port_access_still():
    """Seven RAP accesses that are plain stores: twelve port accesses, seven traps fewer."""
    costs = per_packet(LONE_PACKET | {"io_out": 6, "rap_stores": 7})
    assert costs["port_accesses_per_packet"] == 12
    assert costs["traps_per_packet"] == 11


def test_no_packet_and_no_interrupt_divide_by_nothing():
    """An interval in which nothing happened gives zeros, and no accesses per interrupt at all."""
    costs = per_packet(dict.fromkeys(LONE_PACKET, 0))
    assert set(costs.values()) == {0}
    assert "pic_accesses_per_irq" not in costs


def test_every_cost_has_a_unit():
    """Whatever is recorded has a unit."""
    assert per_packet(LONE_PACKET).keys() <= UNITS.keys()


def test_losses_add_up_over_links():
    """Queue and TAP drops of all links; the NIC's own losses only where there is a NIC."""
    links = {
        "host/wire0": dataclasses.replace(NO_LOSS, queue_drops=2),
        "host/tap0": dataclasses.replace(NO_LOSS, tx_dropped=3, rx_dropped=9),
    }
    assert losses(links, {}) == {"queue_drops": 5}
    counters = {"rx_missed": 1, "tap_write_errors": 4, "tx_frames": 8}
    assert losses(links, counters) == {"queue_drops": 5, "rx_missed": 1, "tap_write_errors": 4}


def test_interface_bytes_are_read_from_proc_net_dev():
    """Also where the number follows the colon at once; an interface that is not there has carried nothing."""
    assert received_and_sent(NET_DEV, "eth0") == (12345678, 4711)
    assert received_and_sent(NET_DEV, "eth1") == (0, 0)


def test_idle_share_is_the_mean_over_cpus():
    """Machine A with two CPUs, one of them busy, is half idle."""
    busy, idle = CpuShare(1, 0, 0, 0, 0, 0), CpuShare(0, 0, 0, 0, 0, 1)
    assert idle_share(CpuUse(1.0, {0: busy, 1: idle})) == 0.5


def test_a_window_without_result_says_why():
    """Traffic that ended too soon is an error, not a zero; the watcher's own error wins."""
    with pytest.raises(BenchError, match="ended before"):
        Window().result()
    with pytest.raises(BenchError, match="mine"):
        Window(error=BenchError("mine")).result()
    seen = Observed(1.0, 0.5, {})
    assert Window(observed=seen).result() is seen


@given(st.lists(finite, min_size=1))
def test_spread_shows_median_and_extremes(values):
    """The text has the median first and, of several values, least and most."""
    text = spread(values, 2)
    assert text.startswith(f"{median(values):.2f}")
    if len(values) > 1:
        assert text.endswith(f"[{min(values):.2f}..{max(values):.2f}]")


def test_spread_of_nothing_and_of_shares():
    """No value: a dash; shares become percent."""
    assert spread([]) == "-"
    assert percent([0.217]) == "21.7"


@given(st.lists(st.lists(st.text("ab c", max_size=9), min_size=1, max_size=5), min_size=1, max_size=5))
def test_tables_align(rows):
    """Every line is as long as its columns, none ends in a space, and all cells are there in order."""
    lines = table(rows[0], rows[1:]).split("\n")
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line == line.rstrip()
        assert "".join(line.split()) == "".join("".join(row).split())


@given(st.floats(1, 1e4), st.floats(0.5, 2))
def test_disagreement_is_relative_to_nettest(goodput, ratio):
    """Of the medians; unknown if one of the two is missing or nothing arrived."""
    assert disagreement([goodput], [goodput * ratio]) == pytest.approx(ratio - 1)
    assert disagreement([], [goodput]) is disagreement([goodput], []) is disagreement([0.0], [1.0]) is None
