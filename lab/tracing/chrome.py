"""Writes a trace as Chrome-trace JSON, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

Trace Event Format: one process track per role, "X" slices with ``ts`` and ``dur`` in microseconds, "M" names, and
flow arrows ("s", "t", "f") from the instruction that trapped to the vmm, on to vmapp, and to the write() it caused.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lab.outfile import OutFile
from lab.outways import Sink
from lab.tracing.kernel import Turn
from lab.tracing.labels import arguments_of, label_of
from lab.tracing.record import Trace
from machine import trace as events
from machine.errors import StackError
from machine.launch import ROLES
from machine.trace import EVENTS, Record

__all__ = ["events_of", "write"]

_FLOW: Final = "trap"
_KERNEL: Final = "kernel scheduling"
_KERNEL_PID: Final = (1 << 22) + 1  # no process of Linux has so high a number

Event = dict[str, Any]


def write(
    target: Path | OutFile, trace: Trace, pids: Mapping[str, int], turns: Iterable[Turn], about: Mapping[str, Any]
) -> int:
    """Writes the file; the number of events. ``about`` goes into "otherData". StackError if it cannot be written."""
    out = target if isinstance(target, OutFile) else OutFile(target, StackError)
    with out.writing() as sink:
        return _write(sink, events_of(trace, pids, turns), dict(about) | {"lost_records": trace.lost})


def _write(sink: Sink, found: Iterable[Event], about: Mapping[str, Any]) -> int:
    count = 0
    sink.write(f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(about)}, "traceEvents": ['.encode())
    for count, event in enumerate(found, 1):
        sink.write(((",\n" if count > 1 else "\n") + json.dumps(event)).encode())
    sink.write(b"\n]}\n")
    return count


def events_of(trace: Trace, pids: Mapping[str, int], turns: Iterable[Turn] = ()) -> Iterator[Event]:
    """All events: names first, then slices and arrows in order of time. Times count from the trace's begin."""
    scheduled = sorted(turns)
    yield from _names(pids, sorted({turn.cpu for turn in scheduled}))
    found = [_slice(record, pids[role], trace.begin) for role in pids for record in trace.records[role]]
    found += [_turn(turn, trace.begin) for turn in scheduled]
    found += _flows(trace, pids)
    yield from sorted(found, key=lambda event: event["ts"])


def _names(pids: Mapping[str, int], cpus: Iterable[int]) -> Iterator[Event]:
    for place, role in enumerate(role for role in ROLES if role in pids):  # a foreign guest may not be ours to show
        yield from _process(pids[role], role, place)
        yield _meta("thread_name", pids[role], pids[role], role)
    for cpu in cpus:
        yield from _process(_KERNEL_PID, _KERNEL, len(ROLES))
        yield _meta("thread_name", _KERNEL_PID, cpu + 1, f"CPU {cpu}")


def _process(pid: int, name: str, place: int) -> Iterator[Event]:
    yield _meta("process_name", pid, pid, name)
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": pid, "args": {"sort_index": place}}


def _meta(what: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _micros(ns: int) -> float:
    return ns / 1000


def _slice(record: Record, pid: int, zero: int) -> Event:
    return {
        "ph": "X",
        "name": label_of(record),
        "cat": EVENTS[record.code].role,
        "ts": _micros(record.begin - zero),
        "dur": _micros(record.end - record.begin),
        "pid": pid,
        "tid": pid,
        "args": arguments_of(record),
    }


def _turn(turn: Turn, zero: int) -> Event:
    return {
        "ph": "X",
        "name": turn.name,
        "cat": "sched",
        "ts": _micros(turn.begin - zero),
        "dur": _micros(turn.end - turn.begin),
        "pid": _KERNEL_PID,
        "tid": turn.cpu + 1,
        "args": {"pid": turn.pid},
    }


def _flows(trace: Trace, pids: Mapping[str, int]) -> list[Event]:
    """The arrows of every trap that both sides recorded."""
    taken = {record.argument: record for record in trace.of(events.VMM_TRAP)}
    stations = [(trace.of(code), pids["vmapp"]) for code in (events.HOST_WORLD, events.TAP_WRITE)]
    found: list[Event] = []
    for number, trap in enumerate(trace.of(events.TRAP), 1):
        handled = taken.get(trap.argument)
        if handled is None:
            continue
        path = [(trap, pids["guest"]), (handled, pids["vmm"])]
        for records, pid in stations:
            inner = _first_within(records, handled)
            if inner is not None:
                path.append((inner, pid))
        found += _arrows(path, number, trace.begin)
    return found


def _first_within(records: list[Record], outer: Record) -> Record | None:
    at = bisect_left(records, outer.begin, key=lambda record: record.begin)
    if at < len(records) and records[at].end <= outer.end:
        return records[at]
    return None


def _arrows(path: list[tuple[Record, int]], number: int, zero: int) -> list[Event]:
    last = len(path) - 1
    return [
        {
            "ph": "s" if step == 0 else "f" if step == last else "t",
            "name": _FLOW,
            "cat": _FLOW,
            "id": number,
            "ts": _micros(record.begin - zero),
            "pid": pid,
            "tid": pid,
        }
        | ({"bp": "e"} if step == last else {})
        for step, (record, pid) in enumerate(path)
    ]
