"""``worldswitch profile``: where the three processes spend their time, as a flame graph."""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import Final

from lab import profilers
from lab.complaint import complain
from lab.extras import remedy
from lab.flamegraph import Stacks, render
from lab.options import add_name
from lab.outfile import OutFile, apart_from
from lab.preflight import require_root
from lab.processes import is_alive
from lab.rundir import Record, RunDirectory, running_record
from machine.errors import ConfigError, SetupError, StackError

__all__ = ["configure", "run"]

_LONGEST: Final = 600
_DIGITS: Final = 9  # int() refuses more than 4300 with an error of its own

Found = dict[profilers.Profiler, Stacks]


def configure(parser: argparse.ArgumentParser) -> None:
    """Which stack, how long, and where to."""
    parser.add_argument("seconds", metavar="SECONDS", nargs="?", default="5", help="how long to watch (default: 5)")
    add_name(parser)
    parser.add_argument("--output", metavar="FILE.svg", help="default: worldswitch-NAME.svg; -: standard output")


def run(args: argparse.Namespace) -> int:
    """0 if there is a graph, by one profiler at least."""
    seconds = _whole_seconds(args.seconds)
    require_root()
    record = running_record(RunDirectory(args.name))
    output = OutFile(args.output or f"worldswitch-{args.name}.svg")
    with contextlib.closing(output), apart_from(output.path):
        _profile(args.name, record, seconds, output)
    return 0


def _profile(name: str, record: Record, seconds: int, output: OutFile) -> None:
    chosen = profilers.choose(profiling=bool(record["settings"].get("profiling")))
    means = ", ".join(profiler.what for profiler in chosen)
    print(f"profiling stack {name} for {seconds} s: {means}", flush=True)
    foreign = _foreign(record)
    _say_what_is_missing(chosen, foreign)
    found = _record(chosen, _roles(record), seconds, foreign)
    stacks = _together(found)
    output.write(render(stacks, _title(name, record, seconds), _explanation(found, stacks)).encode())
    if not output.is_standard_output:
        print(f"{output.path}: open it in a browser; click to zoom, / to search")


def _whole_seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or not 1 <= int(text) <= _LONGEST:
        raise ConfigError(f"bad duration {text!r}: whole seconds, from 1 to {_LONGEST}")
    return int(text)


def _roles(record: Record) -> dict[int, str]:
    return {identity["pid"]: role for role, identity in record["processes"].items() if is_alive(identity)}


def _foreign(record: Record) -> tuple[str, ...]:
    """The roles whose process is no Python program: a guest that is QEMU."""
    return () if record["settings"].get("guest") == "builtin" else ("guest",)


def _say_what_is_missing(chosen: list[profilers.Profiler], foreign: tuple[str, ...]) -> None:
    if not any(profiler.sees_python for profiler in chosen):
        complain(f"no Python functions without py-spy: {remedy('profile')}")
    if foreign and all(profiler.only_python for profiler in chosen):
        complain("nothing of QEMU, which only perf can look into: apt-get install linux-perf")


def _record(chosen: list[profilers.Profiler], roles: dict[int, str], seconds: int, foreign: tuple[str, ...]) -> Found:
    found, problems = profilers.record(chosen, roles, seconds, foreign)
    if not found:
        raise SetupError("; ".join(problems))
    for problem in problems:
        complain(problem)
    if not any(found.values()):
        raise StackError(f"nothing to draw: the processes slept for all of the {seconds} s; send some traffic")
    return found


def _together(found: Found) -> Stacks:
    python = next((part for profiler, part in found.items() if profiler.sees_python), {})
    perf = next((part for profiler, part in found.items() if not profiler.sees_python), {})
    return profilers.combine(python, perf) if python and perf else python or perf


def _title(name: str, record: Record, seconds: int) -> str:
    settings = record["settings"]
    cpus = ",".join(map(str, settings["cpus"]))
    return f"worldswitch {name}: mode {settings['mode']}, driver {settings['driver']}, CPU {cpus}, {seconds} s"


def _explanation(found: Found, stacks: Stacks) -> str:
    what = ", ".join(profiler.what for profiler in found)
    how = ""
    if len(found) > 1:
        how = "; user time divided among Python functions by samples"
    return f"{time.strftime('%Y-%m-%d %H:%M')}  {sum(stacks.values()):.2f} s of CPU time: {what}{how}"
