"""``worldswitch trace``: records a timeline of a running stack, to be opened in Perfetto."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any, Final

from lab import client, processes
from lab.complaint import complain
from lab.options import add_name
from lab.outfile import OutFile, apart_from
from lab.preflight import require_root
from lab.rundir import RunDirectory
from lab.tracing import chrome
from lab.tracing.kernel import kernel_trace, turns
from lab.tracing.record import Trace, buffers_of_process, collect, waiting
from lab.tracing.switch import LONGEST_SECONDS
from machine.control import Message
from machine.errors import ConfigError, StackError

__all__ = ["configure", "run"]

_SECONDS: Final = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Where to, which stack, how long."""
    add_name(parser)
    parser.add_argument(
        "file", metavar="FILE", help="Chrome-trace JSON, for https://ui.perfetto.dev; -: standard output"
    )
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    """0 when the file is there; it says what is in it and what is not."""
    if not 0 < args.seconds <= LONGEST_SECONDS:
        raise ConfigError(f"--seconds {args.seconds:g}: more than 0, at most {LONGEST_SECONDS:g}")
    require_root()
    out = OutFile(args.file)  # fails before anything is traced rather than after
    with contextlib.closing(out), apart_from(out.path):
        _trace(args.name, args.seconds, out)
    return 0


def _trace(name: str, seconds: float, out: OutFile) -> None:
    ask = {"command": "trace", "owner": processes.identify(os.getpid())}
    where = client.request(name, ask | {"seconds": 0})
    cpus = _settings(name)["cpus"]

    answer: Message = {}

    def switch(on: float) -> None:
        answer.update(client.request(name, ask | {"seconds": on and seconds}))

    with buffers_of_process(where["pid"], where["fds"]) as buffers, kernel_trace(cpus) as kernel:
        trace = collect(buffers, switch, waiting(seconds))
    trace.end = min(trace.end, answer.get("ended", 0))  # 0: this program had stood still, and another has taken over
    if trace.end <= trace.begin:
        raise StackError("the trace was ended by another one before it was complete; nothing is written")
    if "problem" in answer:
        complain(answer["problem"])
    about = {"stack": name, "settings": _settings(name)}
    count = chrome.write(out, trace, where["pids"], turns(kernel.switches, trace.begin, trace.end), about)
    _report("standard output" if out.is_standard_output else out.path, trace, count, kernel.missing)


def _settings(name: str) -> dict[str, Any]:
    record = RunDirectory(name).load() or {}
    settings: dict[str, Any] = record.get("settings", {})
    return settings


def _report(path: str, trace: Trace, count: int, missing: str | None) -> None:
    records = ", ".join(f"{role} {len(found)}" for role, found in trace.records.items())
    print(f"{path}: {count} events of {(trace.end - trace.begin) / 1e9:.2f} s (records: {records})")
    if missing is not None:
        print(f"without kernel scheduling: {missing}", file=sys.stderr)
    if trace.lost:
        print(f"{trace.lost} records were lost: they came faster than they could be copied", file=sys.stderr)
