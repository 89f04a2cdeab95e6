"""``worldswitch trace``: records a timeline of a running stack, to be opened in Perfetto."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

from lab import client, processes
from lab.complaint import complain
from lab.options import add_name
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
    parser.add_argument("file", type=Path, metavar="FILE", help="Chrome-trace JSON, for https://ui.perfetto.dev")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    """0 when the file is there; it says what is in it and what is not."""
    if not 0 < args.seconds <= LONGEST_SECONDS:
        raise ConfigError(f"--seconds {args.seconds:g}: more than 0, at most {LONGEST_SECONDS:g}")
    _check_writable(args.file)
    ask = {"command": "trace", "owner": processes.identify(os.getpid())}
    where = client.request(args.name, ask | {"seconds": 0})
    cpus = _settings(args.name)["cpus"]

    answer: Message = {}

    def switch(on: float) -> None:
        answer.update(client.request(args.name, ask | {"seconds": on and args.seconds}))

    with buffers_of_process(where["pid"], where["fds"]) as buffers, kernel_trace(cpus) as kernel:
        trace = collect(buffers, switch, waiting(args.seconds))
    trace.end = min(trace.end, answer.get("ended", 0))  # 0: this program had stood still, and another has taken over
    if trace.end <= trace.begin:
        raise StackError("the trace was ended by another one before it was complete; nothing is written")
    if "problem" in answer:
        complain(answer["problem"])
    about = {"stack": args.name, "settings": _settings(args.name)}
    count = chrome.write(args.file, trace, where["pids"], turns(kernel.switches, trace.begin, trace.end), about)
    _report(args.file, trace, count, kernel.missing)
    return 0


def _settings(name: str) -> dict[str, Any]:
    record = RunDirectory(name).load() or {}
    settings: dict[str, Any] = record.get("settings", {})
    return settings


def _check_writable(path: Path) -> None:
    """Fails before anything is traced rather than after."""
    there = path.exists()
    try:
        path.open("a").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _report(path: Path, trace: Trace, count: int, missing: str | None) -> None:
    records = ", ".join(f"{role} {len(found)}" for role, found in trace.records.items())
    print(f"{path}: {count} events of {(trace.end - trace.begin) / 1e9:.2f} s (records: {records})")
    if missing is not None:
        print(f"without kernel scheduling: {missing}", file=sys.stderr)
    if trace.lost:
        print(f"{trace.lost} records were lost: they came faster than they could be copied", file=sys.stderr)
