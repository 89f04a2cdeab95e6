"""``worldswitch status``: a table for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, Final

from lab.complaint import complain, printable
from lab.options import add_name
from lab.rundir import names

__all__ = ["configure", "run", "table"]

_NOT_RUNNING: Final = 3  # as `systemctl is-active` has it


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
    """The report in lines; counters that are zero are left out."""
    parts = {key: value for key, value in report.items() if isinstance(value, dict)}
    settings = parts["settings"]
    yield f"stack {report['name']}: {report['state']}{', cable pulled' if report['cable'] is False else ''}"
    yield from (f"  TROUBLE: {printable(line)}" for line in report["troubles"])  # it may quote QEMU and its guest
    yield "  " + "  ".join(f"{key} {_text(settings[key])}" for key in settings if settings[key] not in (None, False))
    yield "  " + "  ".join(f"{role} {address}" for role, address in parts["addresses"].items())
    yield f"\n{'process':24}{'pid':>10}{'CPU %':>10}{'RSS MiB':>10}"
    for role, process in parts["processes"].items():
        if process["pid"] is not None:
            yield f"{role:24}{process['pid']:>10}{process['cpu_percent']:>10.0f}{process['rss_bytes'] / 2**20:>10.1f}"
    yield f"\n{'counter':24}{'value':>20}"
    yield from (f"{name:24}{value:>20,}" for name, value in parts["counters"].items() if value)
    yield f"\n{'port':24}{'reads':>10}{'writes':>10}{'us each':>10}"
    for name, port in parts["ports"].items():
        each = port["ns"] / 1000 / max(1, port["reads"] + port["writes"])
        yield f"{name:24}{port['reads']:>10}{port['writes']:>10}{each:>10.1f}"
    times = parts["world_switch_ns"]
    if times["samples"]:
        p50, p99 = (times[key] / 1000 for key in ("p50", "p99"))
        yield f"\nworld switch, one way, last {times['samples']}: p50 {p50:.1f} us, p99 {p99:.1f} us"
    for name, link in parts["links"].items():
        yield f"link {name}: " + ", ".join(f"{key} {value}" for key, value in link.items())


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
