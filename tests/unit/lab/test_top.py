"""Rates between two samples, their picture, and the screen it is shown on. No stack, no privilege."""

from __future__ import annotations

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
