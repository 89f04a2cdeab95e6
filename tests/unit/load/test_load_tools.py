"""iperf3 and ping: what their output says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.load import iperf3, ping, place, vde
from machine.errors import BenchError, SetupError

TCP = {
    "intervals": [
        {"sum": {"bits_per_second": 80e6, "bytes": 10_000_000, "retransmits": 18, "omitted": True}},
        {"sum": {"bits_per_second": 91e6, "bytes": 11_375_000, "retransmits": 1, "omitted": False}},
        {"sum": {"bits_per_second": 95e6, "bytes": 11_875_000, "retransmits": 1, "omitted": False}},
    ],
    "end": {
        "sum_sent": {"bytes": 23_250_000, "bits_per_second": 93e6, "seconds": 2.0, "retransmits": 2},
        "sum_received": {"bytes": 23_000_000, "bits_per_second": 92e6, "seconds": 2.0},
    },
}
UDP = {
    "end": {
        "streams": [
            {
                "udp": {
                    "seconds": 1.0,
                    "bytes": 1_250_000,
                    "bits_per_second": 10e6,
                    "jitter_ms": 0.026,
                    "lost_packets": 200,
                    "packets": 1000,
                    "out_of_order": 3,
                }
            }
        ]
    }
}

PINGS = """\
PING 198.18.0.3 (198.18.0.3) 56(84) bytes of data.
64 bytes from 198.18.0.3: icmp_seq=1 ttl=64 time=0.305 ms
64 bytes from 198.18.0.3: icmp_seq=2 ttl=64 time=1.46 ms
64 bytes from 198.18.0.3: icmp_seq=2 ttl=64 time=1.52 ms (DUP!)
64 bytes from 198.18.0.3: icmp_seq=4 ttl=64 time=31.0 ms

--- 198.18.0.3 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, 25% packet loss, time 204ms
rtt min/avg/max/mdev = 0.031/0.127/0.305/0.125 ms
"""
NO_ANSWER = """\
PING 198.18.0.9 (198.18.0.9) 56(84) bytes of data.
From 198.18.0.2 icmp_seq=1 Destination Host Unreachable

--- 198.18.0.9 ping statistics ---
2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 102ms
"""


def test_tcp_figures_are_the_receivers():
    """Goodput, bytes and time from the receiver, retransmits from the sender, no warm-up in the series."""
    found = iperf3.tcp_result(TCP)
    assert (found.goodput_mbps, found.bytes, found.seconds, found.retransmits) == (92.0, 23_000_000, 2.0, 2)
    assert found.series == (91.0, 95.0)


def test_udp_goodput_is_what_arrived():
    """Of 10 Mb/s sent a fifth was lost."""
    found = iperf3.udp_result(UDP)
    assert found == iperf3.UdpResult(8.0, 1.0, 1000, 200, 3, 0.026)


def test_udp_that_sent_nothing_is_no_division_by_zero():
    """A rate so low that no datagram left."""
    nothing = {"end": {"streams": [{"udp": UDP["end"]["streams"][0]["udp"] | {"packets": 0, "lost_packets": 0}}]}}
    assert iperf3.udp_result(nothing).goodput_mbps == 0


@pytest.mark.parametrize("report", [{}, {"end": {}}, {"end": {"streams": []}}, {"end": {"streams": [{}]}}, {"end": 3}])
@pytest.mark.parametrize("read", [iperf3.tcp_result, iperf3.udp_result])
def test_a_report_of_another_shape_is_one_line(report, read):
    """Another version of iperf3 may lack a field: BenchError names it."""
    with pytest.raises(BenchError, match="iperf3's report lacks"):
        read(report)


def test_an_error_in_the_report_is_passed_on():
    """iperf3 -J exits with 0 after an error; what it says is in the report."""
    with pytest.raises(BenchError, match="iperf3 failed: unable to connect to server: Connection refused"):
        iperf3.parse(json.dumps({"intervals": [], "error": "unable to connect to server: Connection refused"}))
    with pytest.raises(BenchError, match="no report"):
        iperf3.parse("Killed")


def test_ping_answers_and_losses():
    """One time for each answer, a duplicate not counted, what is missing lost."""
    assert ping.parse(PINGS) == ping.PingResult((0.305, 1.46, 31.0), sent=4, lost=1)


def test_ping_without_any_answer():
    """All lost is a result, not an error."""
    assert ping.parse(NO_ANSWER) == ping.PingResult((), sent=2, lost=2)


@given(st.text())
def test_ping_output_that_is_none_is_one_line(text):
    """Anything else that ping might print gives a BenchError, never a traceback."""
    with pytest.raises(BenchError, match="no summary"):
        ping.parse(text)


@pytest.mark.parametrize(("program", "package"), [("iperf3", "iperf3"), ("ping", "iputils-ping")])
def test_a_program_that_is_missing_says_how_to_get_it(monkeypatch, program, package):
    """One line with the package's name."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SetupError, match=rf"no {program} on this machine; install it \(apt install {package}\)"):
        place.find_program(program, package)


def test_vde_is_not_available_without_its_programs(monkeypatch):
    """A benchmark asks before it promises the comparison."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not vde.available()
