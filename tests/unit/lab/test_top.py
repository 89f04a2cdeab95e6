"""Rates between two samples, their picture, and the screen it is shown on. No stack, no privilege."""

from __future__ import annotations

import itertools
import os
import pty
import sys
import time
from contextlib import contextmanager

import pytest

from lab import cli
from lab.portnames import port_name
from lab.rates import Sample, rates_between
from lab.screen import Screen
from lab.status import COUNTER_NAMES
from lab.topview import view
from machine.config import Settings

TIMES = {"p50": 12_300, "p99": 45_600, "samples": 1024, "there_p50": 1, "back_p50": 1}


def sample(at, ports=None, cpu=0.0, **counters):
    """A sample whose counters are zero but for those named."""
    status = {
        "counters": dict.fromkeys(COUNTER_NAMES, 0) | counters,
        "ports": ports or {},
        "world_switch_ns": TIMES,
        "cable": True,
    }
    return Sample(at, status, dict.fromkeys(("guest", "vmm", "vmapp"), cpu))


def test_counters_become_rates():
    """Differences over the time between the samples; bytes become megabits."""
    rates = rates_between(
        sample(10.0, tx_bytes=1000, io_in=5), sample(12.0, tx_bytes=251_000, io_in=25, host_world_ns=500_000_000)
    )
    assert rates.seconds == 2.0
    assert rates.counters["io_in"] == 10.0
    assert rates.sent_mbps == pytest.approx(1.0)
    assert rates.host_world == pytest.approx(0.25)


def test_a_long_halt_is_idle_although_it_is_not_yet_counted():
    """Without HLT or trap between the samples, the load of the guest's process tells an idle guest from a busy one."""
    assert rates_between(sample(0), sample(1, cpu=1.0)).guest_idle == 1.0
    assert rates_between(sample(0), sample(1, cpu=99.0)).guest_idle == 0.0
    assert rates_between(sample(0), sample(1, hlt=9, idle_ns=400_000_000)).guest_idle == pytest.approx(0.4)
    assert rates_between(sample(0), sample(1, hlt=1, idle_ns=7_000_000_000)).guest_idle == 1.0


def test_a_long_stay_in_the_host_world_is_told_by_its_selects():
    """A stay that has not ended has added nothing to the counter of its time."""
    assert rates_between(sample(0), sample(1, selects=3)).host_world == 1.0
    assert rates_between(sample(0), sample(1)).host_world == 0.0


def test_no_time_between_two_samples_gives_no_rates():
    """Neither an exception nor astronomers' figures: an interval of nothing is one without rates."""
    port = {"0x1010": {"reads": 5, "writes": 0, "ns": 10}}
    for later in (10.0, 9.0):
        rates = rates_between(sample(10.0), sample(later, port, io_in=5, tx_bytes=1000))
        assert rates.seconds == 0
        assert not any(rates.counters.values())
        assert (rates.sent_mbps, rates.ports) == (0.0, ())


def test_counters_that_began_anew_are_said_and_not_negative():
    """Another stack of the same name counts from zero: what it has counted since is a lower bound, and is marked."""
    ports = [{"0x1010": {"reads": reads, "writes": 0, "ns": 1000 * reads}} for reads in (900, 4)]
    before, after = sample(0.0, ports[0], io_in=900, tx_bytes=5_000_000), sample(2.0, ports[1], io_in=4, tx_bytes=250)
    rates = rates_between(before, after)
    assert rates.anew
    assert rates.counters["io_in"] == 2.0
    assert rates.sent_mbps == pytest.approx(0.001)
    assert [port.per_second for port in rates.ports] == [2.0]
    assert "COUNTERS BEGAN ANEW" in view("x", Settings().as_map(), after.status, rates, str)[0]


def test_a_word_that_has_passed_its_end_is_not_anew():
    """Counters have 64 bits; time in ns fills them after 584 years, a counter that began high does sooner."""
    rates = rates_between(sample(0.0, host_world_ns=2**64 - 100_000_000), sample(1.0, host_world_ns=150_000_000))
    assert not rates.anew
    assert rates.host_world == pytest.approx(0.25)


def test_a_difference_that_shrinks_is_no_other_stack():
    """What the vmm handled itself is a difference of two counters that are read one after the other."""
    assert not rates_between(sample(0.0, io_handled_in_vmm=9), sample(1.0, io_handled_in_vmm=8)).anew


def test_rates_are_of_the_time_between_the_readings():
    """Not of the time between the questions: an answer that comes late was read when it says, and the picture says."""
    before, after = sample(0.0, io_in=0), sample(9.0, io_in=100)
    before.status["at_ns"], after.status["at_ns"] = 1_000_000_000, 3_000_000_000
    rates = rates_between(before, after)
    assert (rates.seconds, rates.counters["io_in"]) == (2.0, 50.0)
    heading = itertools.takewhile(bool, view("x", Settings().as_map(), after.status, rates, str))
    assert " ".join(heading).endswith("over 2.00 s")


def test_no_share_exceeds_the_whole():
    """An access, a HLT or a stay that began before the interval counts when it ends, and fills it at most."""
    port = {"0x1010": {"reads": 1, "writes": 0, "ns": 5_000_000_000}}
    rates = rates_between(sample(0.0), sample(1.0, port, hlt=1, idle_ns=7_000_000_000, host_world_ns=7_000_000_000))
    assert rates.ports[0].share == rates.guest_idle == rates.host_world == 1.0


def test_few_switch_times_have_no_percentile():
    """Of two, the 99th percentile is the slower one, and is called that."""
    after = sample(1.0)
    after.status["world_switch_ns"] = TIMES | {"samples": 2}
    assert any(
        "slowest 45.6 us" in line
        for line in view("x", Settings().as_map(), after.status, rates_between(sample(0.0), after), str)
    )


def test_ports_of_one_name_are_one_and_quiet_ones_are_left_out():
    """Port rates are per name, with the share of time and the time of one access."""
    before = {"0x1010": {"reads": 1, "writes": 0, "ns": 10}, "0x0020": {"reads": 3, "writes": 3, "ns": 9}}
    after = before | {
        "0x1010": {"reads": 51, "writes": 50, "ns": 10 + 100_000_000},
        "0x0cfc": {"reads": 1, "writes": 0, "ns": 5},
        "0x0cfe": {"reads": 1, "writes": 0, "ns": 7},
    }
    rates = {port.name: port for port in rates_between(sample(0, before), sample(1, after)).ports}
    assert set(rates) == {"Lance RDP", "PCI data"}
    assert rates["Lance RDP"].per_second == 100
    assert rates["Lance RDP"].share == pytest.approx(0.1)
    assert rates["Lance RDP"].ns_each == pytest.approx(1_000_000)
    assert (rates["PCI data"].per_second, rates["PCI data"].ns_each) == (2, 6)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("0x1010", "Lance RDP"),
        ("0x1012", "Lance RAP"),
        ("0x100f", "Lance APROM"),
        ("0x101c", "Lance +0x1c"),
        ("0x00a1", "PIC slave mask"),
        ("0x0cf8", "PCI address"),
        ("0x0cff", "PCI data"),
        ("0x0300", "0x0300"),
        ("other", "other"),
    ],
)
def test_ports_have_names(label, name):
    """Device and register where there is one, else the number."""
    assert port_name(label) == name


def test_the_picture_fits_80_columns_by_24_rows_and_says_it_all():
    """Every number a user asked for has its line; nothing wraps on the smallest usual terminal but the heading."""
    ports = {f"{0x1000 + n:#06x}": {"reads": 10 + n, "writes": 0, "ns": 1000} for n in range(0x10, 0x20, 2)}
    after = sample(1.0, ports, io_in=100, io_out=50, io_switched=40, world_switches=60, tx_frames=12_345, hlt=1)
    settings = Settings(mode="optimised", combining=False).as_map()
    lines = view("demo", settings, after.status, rates_between(sample(0.0), after), lambda text: text)
    text = "\n".join(lines)
    assert len(lines) <= 24
    assert all(len(line) <= 100 for line in lines[1:])
    for said in ("mode optimised", "combining off", "150 /s", "switched 40", "12,345 frames/s", "12.3 us", "45.6 us"):
        assert said in text
    assert "CABLE" not in text
    assert "CABLE PULLED" in view("x", settings, after.status | {"cable": False}, rates_between(after, after), str)[0]


def test_without_a_terminal_blocks_follow_each_other(capsys):
    """No control sequences; an empty line between two blocks."""
    with Screen(()) as screen:
        screen.show([screen.bold("one"), "two"])
        screen.show(["three"])
    assert capsys.readouterr().out == "one\ntwo\n\nthree\n"


@contextmanager
def terminal(no_color=""):
    """Standard input and output are a terminal; yields its other end."""
    master, slave = pty.openpty()
    try:
        with (
            os.fdopen(os.dup(slave), "w") as out,
            os.fdopen(slave, "r") as keys,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stdin", keys)
            patch.setenv("TERM", "xterm")
            patch.setenv("NO_COLOR", no_color)
            yield master
    finally:
        os.close(master)


def test_a_terminal_is_redrawn_and_q_ends():
    """The picture is drawn from the top left corner, the last one stays, and the key q ends the wait at once."""
    with terminal() as other_end:
        with Screen(()) as screen:
            screen.show([screen.bold("heading"), "x" * 500])
            os.write(other_end, b"xq")
            started = time.monotonic()
            assert screen.wait(10.0)
            assert time.monotonic() - started < 5.0
        seen = ""
        while not (left := seen.partition("\x1b[?1049l")[2]).endswith("x\r\n"):  # a terminal gives its text piecemeal
            seen += os.read(other_end, 65536).decode()
    assert "\x1b[?1049h" in seen
    assert "\x1b[H\x1b[1mheading\x1b[m" in seen
    assert "heading" in left


def test_no_color_leaves_emphasis_out():
    """NO_COLOR, when not empty, is respected."""
    for value, emphasised in (("1", False), ("", True)):
        with terminal(value):
            assert (Screen(()).bold("x") != "x") is emphasised


def test_a_readable_descriptor_ends_the_wait():
    """A request to end is noticed at once; without one the wait takes its time."""
    reader, writer = os.pipe()
    try:
        screen = Screen((reader,))
        assert not screen.wait(0.01)
        os.write(writer, b"x")
        assert screen.wait(10.0)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("interval", ["0", "0.01", "x", "-1", "nan", "99999"])
def test_a_bad_interval_is_one_line(interval, capsys):
    """Refused with status 2, before any stack is looked for."""
    assert cli.main(["top", f"--interval={interval}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
