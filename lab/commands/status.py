"""``worldswitch status``: a table for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from lab import textlayout
from lab.complaint import complain, printable
from lab.options import add_name
from lab.readings import tail_label
from lab.rundir import names
from lab.shownsettings import shown_settings

__all__ = ["configure", "run", "table"]

_NOT_RUNNING: Final = 3  # as `systemctl is-active` has it
_LABEL_WIDTH: Final = 24  # so that the tables below each other have their figures in the same place


def configure(parser: argparse.ArgumentParser) -> None:
    """Which stack, and in what form."""
    add_name(parser)
    parser.add_argument("--json", action="store_true", help="for programs: every key, whatever the state")
    parser.add_argument("--links", action="store_true", help="with what each network link has carried and lost")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of --json and nothing else")


def run(args: argparse.Namespace) -> int:
    """0 if the stack runs, 3 if it does not."""
    from lab.report import make_report, schema

    if args.schema:
        print(json.dumps(schema(), indent=2))
        return 0
    report = make_report(args.name, links=args.links)
    running = report["state"] == "running"
    if args.json:
        print(json.dumps(report, indent=2))
    elif running:
        print("\n".join(table(report)))
    else:
        complain(_why_not(report))
    return 0 if running else _NOT_RUNNING


def _why_not(report: dict[str, object]) -> str:
    name, state = report["name"], report["state"]
    if state == "absent":
        others = ", ".join(names())
        return f"no stack {name} is up; " + (f"see --name: {others}" if others else "start it with `worldswitch up`")
    if state == "stopped":
        return f"stack {name} has ended by itself: {report['reason']}"
    if state == "unclean":
        reason = report["reason"]
        return f"stack {name} has ended, but not all of it could be removed ({reason}); `worldswitch down` tries again"
    if state == "dead":
        return f"stack {name} is dead: its supervisor was killed; `worldswitch down` removes what it left"
    return f"stack {name} is {state}"


def table(report: dict[str, Any]) -> Iterator[str]:
    """The report as a person reads it; counters that are zero are left out."""
    parts = {key: value for key, value in report.items() if isinstance(value, dict)}
    yield f"stack {report['name']}: {report['state']}{', cable pulled' if report['cable'] is False else ''}"
    yield from (f"  TROUBLE: {printable(line)}" for line in report["troubles"])  # it may quote QEMU and its guest
    yield from _indented(f"{key} {text}" for key, text in shown_settings(parts["settings"]))
    yield from _indented(f"{role} {address}" for role, address in parts["addresses"].items())
    yield "\n" + textlayout.table(("process", "pid", "CPU %", "RSS MiB"), _processes(parts["processes"]))
    counters = [(name, f"{value:,}") for name, value in parts["counters"].items() if value]
    yield "\n" + textlayout.table(("counter", "value"), counters)
    yield "\n" + textlayout.table(("port", "reads", "writes", "us each"), _ports(parts["ports"]))
    times = parts["world_switch_ns"]
    if times["samples"]:
        p50, p99 = (times[key] / 1000 for key in ("p50", "p99"))
        which = tail_label(times["samples"])
        yield f"\nworld switch, one way, last {times['samples']}: p50 {p50:.1f} us, {which} {p99:.1f} us"
    for name, link in parts["links"].items():
        yield from textlayout.fields(
            (f"{key} {value}" for key, value in link.items()), label=f"link {name}: ", gap="  "
        )


def _indented(words: Iterable[str]) -> list[str]:
    return textlayout.fields(words, label="  ", gap="  ")


def _processes(processes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for role, process in processes.items():
        if process["pid"] is not None:
            memory = process["rss_bytes"] / 2**20
            yield f"{role:{_LABEL_WIDTH}}", str(process["pid"]), f"{process['cpu_percent']:.0f}", f"{memory:.1f}"


def _ports(ports: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, ...]]:
    for name, port in ports.items():
        each = port["ns"] / 1000 / max(1, port["reads"] + port["writes"])
        yield f"{name:{_LABEL_WIDTH}}", f"{port['reads']}", f"{port['writes']}", f"{each:.1f}"
