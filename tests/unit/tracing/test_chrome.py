"""The Chrome-trace JSON: a structure that Perfetto takes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from lab.tracing import chrome
from lab.tracing.kernel import Switch, Turn, parse_switches, turns
from lab.tracing.record import Trace
from machine import trace as events
from machine.errors import StackError
from machine.ring import KIND_OUT, pack_key
from machine.trace import EVENTS, Record, trap_argument

PIDS = {"guest": 101, "vmm": 102, "vmapp": 103}
OUT = trap_argument(pack_key(KIND_OUT, 2, 0x1010), 9)


def sample() -> Trace:
    """One OUT that transmits, in 2.0, and one event of each other kind later on."""
    trace = Trace(1_000_000, 9_000_000, {role: [] for role in PIDS})
    for begin, end, code, argument in (
        (2_000_000, 2_200_000, events.TRAP, OUT),
        (2_010_000, 2_190_000, events.VMM_TRAP, OUT),
        (2_015_000, 2_150_000, events.SWITCH, 1),
        (2_030_000, 2_130_000, events.HOST_WORLD, 1),
        (2_035_000, 2_120_000, events.ACCESS, pack_key(KIND_OUT, 2, 0x10)),
        (2_040_000, 2_110_000, events.ENGINE, 2),
        (2_050_000, 2_090_000, events.TAP_WRITE, 60),
        (2_160_000, 2_170_000, events.DELIVER, 0),
        *((3_000_000 + code * 1000, 3_000_500 + code * 1000, code, code) for code in EVENTS),
    ):
        trace.records[EVENTS[code].role].append(Record(begin, end, code, argument))
    return trace


def check(found: list[dict[str, Any]]) -> None:
    """What the Trace Event Format asks for; raises AssertionError."""
    stamps = [event["ts"] for event in found if event["ph"] != "M"]
    assert stamps == sorted(stamps)
    for event in found:
        assert event["ph"] in {"X", "M", "i", "s", "t", "f"}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ph"] == "M" or event["ts"] >= 0
        assert event["ph"] != "X" or event["dur"] >= 0
    check_nesting(found)
    check_flows(found)


def check_nesting(found: list[dict[str, Any]]) -> None:
    """Slices of one track lie beside or within one another, never across."""
    tracks = defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
    for slices in tracks.values():
        ends: list[float] = []
        for begin, negative in sorted(slices):
            while ends and ends[-1] <= begin:
                ends.pop()
            assert not ends or begin - negative <= ends[-1] + 0.001
            ends.append(begin - negative)


def check_flows(found: list[dict[str, Any]]) -> None:
    """Each arrow begins once, ends once, and each of its points is where a slice of its track begins."""
    begins = {(event["pid"], event["ts"]) for event in found if event["ph"] == "X"}
    phases = defaultdict(list)
    for event in found:
        if event["ph"] in "stf":
            phases[event["id"]].append(event["ph"])
            assert (event["pid"], event["ts"]) in begins
    for path in phases.values():
        assert path[0] == "s"
        assert path[-1] == "f"
        assert set(path[1:-1]) <= {"t"}


def test_the_file_is_what_perfetto_reads(tmp_path: Path) -> None:
    """One JSON object with traceEvents: known phases, times in us in order, proper nesting, whole arrows."""
    path = tmp_path / "trace.json"
    count = chrome.write(path, sample(), PIDS, [Turn(2_000_000, 2_100_000, 0, 7, "bash")], {"stack": "x"})
    content = json.loads(path.read_text())
    assert len(content["traceEvents"]) == count
    assert content["otherData"] == {"stack": "x", "lost_records": 0}
    check(content["traceEvents"])


def test_every_process_has_a_named_track() -> None:
    """Roles are processes of their own pid, and the scheduler has one track for each CPU."""
    found = list(chrome.events_of(sample(), PIDS, [Turn(2_000_000, 2_100_000, 1, 7, "bash")]))
    named = {event["args"]["name"]: event["pid"] for event in found if event["name"] == "process_name"}
    assert {role: named[role] for role in PIDS} == PIDS
    assert "kernel scheduling" in named
    assert [event for event in found if event["name"] == "thread_name" and event["args"]["name"] == "CPU 1"]


def test_an_arrow_leads_from_the_trap_to_the_write() -> None:
    """The OUT that transmits is tied to the vmm's trap, the host world and the write() on the TAP."""
    found = list(chrome.events_of(sample(), PIDS))
    path = [(event["ph"], event["pid"], event["ts"]) for event in found if event["ph"] in "stf" and event["id"] == 1]
    assert path == [("s", 101, 1000.0), ("t", 102, 1010.0), ("t", 103, 1030.0), ("f", 103, 1050.0)]


def test_names_say_what_happened() -> None:
    """A slice is called by its access, its reason or its system call."""
    names = {event["name"] for event in chrome.events_of(sample(), PIDS)}
    assert {"OUT Lance RDP", "emulate OUT Lance RDP", "world switch (io)", "write() on the TAP"} <= names


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """No traceback, and nothing left behind."""
    with pytest.raises(StackError, match="cannot write"):
        chrome.write(tmp_path / "missing" / "trace.json", sample(), PIDS, [], {})


def test_scheduler_lines_are_read() -> None:
    """sched_switch events are found among other lines, whatever a process calls itself."""
    event = (
        "sched_switch: prev_comm={} prev_pid=1 prev_prio=120 prev_state=S ==> next_comm={} next_pid={} next_prio=120"
    )
    text = "\n".join(
        (
            "# tracer: nop",
            "   <...>-12    [000] d..2.   100.000010: " + event.format("a b", "next_pid=1 x", 34),
            "  python-34    [000] d..2.   100.000025: " + event.format("python", "swapper/0", 0),
            "  python-34    [000] d..2.   100.000026: sched_wakeup: comm=x pid=1",
        )
    )
    found = list(parse_switches(text.splitlines()))
    assert found == [
        Switch(100_000_010_000, 0, 34, "next_pid=1 x"),
        Switch(100_000_025_000, 0, 0, "swapper/0"),
    ]


def test_turns_lie_within_the_trace() -> None:
    """Turns are cut at its ends, and idle time is nobody's."""
    switches = [Switch(10, 0, 1, "a"), Switch(20, 0, 0, "swapper"), Switch(30, 0, 2, "b")]
    assert list(turns(switches, 15, 35)) == [Turn(15, 20, 0, 1, "a"), Turn(30, 35, 0, 2, "b")]
