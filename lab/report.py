"""The status report: everything about one stack as plain values, the same keys whatever state it is in."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil

from lab import client
from lab.processes import Identity, is_alive
from lab.rundir import Record, RunDirectory, state_of
from lab.status import COUNTER_NAMES
from machine.config import Settings
from machine.errors import NetworkError, StackError
from machine.launch import ROLES
from netbackend.plan import NetworkPlan

__all__ = ["STATES", "Report", "make_report", "schema"]

Report = dict[str, Any]

STATES: Final = ("absent", "starting", "running", "ending", "stopped", "unclean", "dead")

_CPU_WINDOW_SECONDS: Final = 0.25  # the kernel counts CPU time in ticks of 10 ms: good to 4 %
_MACHINES: Final = ("guest", "host", "peer", "native")
_SETTINGS: Final = tuple(field.name for field in dataclasses.fields(Settings))
_PROCESS: Final = ("pid", "cpu_percent", "rss_bytes")
_TIMES: Final = ("p50", "p99", "samples", "there_p50", "back_p50")


def make_report(name: str, *, links: bool = False) -> Report:
    """The report on stack ``name``. What is not known in its state is null; ``links``: ask the kernel for those too."""
    directory = RunDirectory(name)
    record = directory.load()
    report = _empty(name, state_of(record))
    if record is None:
        return report
    settings = record["settings"]
    report |= {"profile": settings["profile"], "mode": settings["mode"], "reason": record["reason"]}
    report["settings"] |= {key: settings.get(key) for key in _SETTINGS}
    if report["state"] == "running":
        _fill(report, directory, record, links)
    return report


def _empty(name: str, state: str) -> Report:
    return {
        "name": name,
        "state": state,
        "reason": None,
        "profile": None,
        "mode": None,
        "cable": None,
        "addresses": dict.fromkeys(_MACHINES),
        "processes": {role: dict.fromkeys(_PROCESS) for role in ROLES},
        "counters": dict.fromkeys(COUNTER_NAMES),
        "ports": {},
        "settings": dict.fromkeys(_SETTINGS),
        "world_switch_ns": dict.fromkeys(_TIMES),
        "links": {},
        "troubles": [],
    }


def _fill(report: Report, directory: RunDirectory, record: Record, links: bool) -> None:
    loads = _loads(record["processes"])
    answer = client.ask(directory, {"command": "status"})
    if answer is None or not _is_same(directory, record):
        report["state"] = "ending"
        return
    if answer.get("event") == "failed":
        raise StackError(answer["message"])
    for key in ("counters", "ports", "world_switch_ns", "cable"):
        report[key] = answer[key]
    stations = NetworkPlan(directory.name).stations
    report["addresses"] = {role: stations[role].address for role in _MACHINES}
    report["processes"] |= loads
    report["troubles"] = [*answer["troubles"], *_stopped(record["processes"])]
    if record["settings"].get("guest") == "qemu":
        from lab.guestwatch import guest_troubles

        report["troubles"] += guest_troubles(directory)
    if links:
        report["links"] = _links(record)


def _is_same(directory: RunDirectory, record: Record) -> bool:
    """Whether the stack that has answered is the one of the record, not another of its name, started meanwhile."""
    now = directory.load()
    return now is not None and now["processes"] == record["processes"]


def _loads(identities: dict[str, Identity]) -> dict[str, dict[str, Any]]:
    """Load over the next quarter of a second, and resident memory (shared pages count for each that has them)."""
    found = {role: psutil.Process(entry["pid"]) for role, entry in identities.items() if is_alive(entry)}
    try:
        for process in found.values():
            process.cpu_percent(None)
        time.sleep(_CPU_WINDOW_SECONDS)
        return {role: _process(process) for role, process in found.items()}
    except psutil.NoSuchProcess:
        return {}


def _stopped(identities: dict[str, Identity]) -> Iterator[str]:
    """A line for each process that a signal has stopped: it lives, and everybody else waits for it."""
    for role, entry in identities.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            if is_alive(entry) and psutil.Process(entry["pid"]).status() == psutil.STATUS_STOPPED:
                yield f"{role} is stopped by a signal: kill -CONT {entry['pid']}"


def _process(process: psutil.Process) -> dict[str, Any]:
    return {"pid": process.pid, "cpu_percent": process.cpu_percent(None), "rss_bytes": process.memory_info().rss}


def _links(record: Record) -> dict[str, dict[str, int]]:
    from netbackend.topology import link_statistics

    try:
        return {name: dataclasses.asdict(link) for name, link in link_statistics(record["network"]).items()}
    except (NetworkError, StackError):  # it is just ending
        return {}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report."""
    from netbackend.links import LinkStatistics  # slow to import: it brings pyroute2

    text, count, number = {"type": ["string", "null"]}, {"type": ["integer", "null"], "minimum": 0}, _nullable("number")
    link = _object({field.name: count for field in dataclasses.fields(LinkStatistics)})
    port = _object({"reads": count, "writes": count, "ns": count})
    process = _object({"pid": count, "cpu_percent": number | {"minimum": 0}, "rss_bytes": count})
    return _object(
        {
            "name": {"type": "string"},
            "state": {"enum": list(STATES)},
            "reason": text,
            "profile": text,
            "mode": text,
            "cable": _nullable("boolean"),
            "addresses": _object(dict.fromkeys(_MACHINES, text)),
            "processes": _object(dict.fromkeys(ROLES, process)),
            "counters": _object(dict.fromkeys(COUNTER_NAMES, count)),
            "ports": _map("^(0x[0-9a-f]{4}|other)$", port),
            "settings": _object({name: {} for name in _SETTINGS}),
            "world_switch_ns": _object(dict.fromkeys(_TIMES, count)),
            "troubles": {"type": "array", "items": {"type": "string"}},
            "links": _map("^[a-z]+/[a-z0-9]+$", link),
        }
    ) | {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "worldswitch status"}


def _nullable(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Exactly these keys, each of them."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _map(pattern: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "patternProperties": {pattern: values}, "additionalProperties": False}
