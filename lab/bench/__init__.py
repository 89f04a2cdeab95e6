"""The benchmarks: ``worldswitch bench NAME``. Each module has ``run(args)``, which prints a table and writes JSON."""

from __future__ import annotations

import argparse
import importlib
from contextlib import nullcontext
from typing import Final

from lab.arguments import whole
from lab.bench.rounds import Effort
from lab.outfile import apart_from
from lab.stops import ASKED_TO_END, Interruption
from lab.streams import patient
from lab.textlayout import listing
from machine.config import PROFILES
from machine.errors import ConfigError

__all__ = ["BENCHES", "GUESTS", "configure", "run"]

BENCHES: Final = {
    "breakdown": "share and average of each kind of work while the guest sends (Tables 1 and 2)",
    "combining": "what threshold, decay and cap of send combining do, one at a time",
    "counts": "port accesses, traps, world switches, interrupts for each packet, by driver and mode",
    "handoff": "round trips: two bare processes, a trap the vmm answers, a trap that switches to vmapp",
    "idle": "idle share of the CPU while the guest sends, by optimisation (Table 3)",
    "latency": "where the one OUT that transmits spends its time, segment by segment (Figure 5)",
    "ping": "round-trip times by ping, native, 2.0 and optimised, warm and cold",
    "qemu": "a stock guest with our network card over vfio-user, beside the same guest with QEMU's own pcnet",
    "sweep": "throughput against operation size, with the whole CPU and with half of it (Figure 6)",
    "throughput": "TCP both ways, native and each mode, at 100 Mb/s and 1 Gb/s",
}

_MOST_RUNS: Final = 1000

GUESTS: Final = ("builtin", "qemu")
"""Whom a benchmark can measure; setting ``guest`` has others, whom nobody can ask for anything."""

_OPTIONAL: Final = ("guest", "link", "profile", "seconds")  # a benchmark that has them says so in its OPTIONS


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments that every benchmark has."""
    parser.epilog = f"benchmarks:\n{listing(BENCHES.items())}"
    parser.add_argument("bench", choices=tuple(BENCHES), metavar="NAME", help="see below")
    parser.add_argument("--runs", type=whole(1, _MOST_RUNS), default=None, help="how often everything is measured")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: to try it, not to quote it")
    parser.add_argument(
        "--link", default=None, metavar="RATE", help="rate of the wire: 100mbit, 1gbit, any rate, or none"
    )
    parser.add_argument("--profile", choices=tuple(PROFILES), default=None, help="settings of the stack")
    parser.add_argument(
        "--guest", choices=GUESTS, default=None, help="the built-in guest, or a stock kernel under QEMU"
    )
    parser.add_argument("--seconds", type=float, default=None, help="length of each measurement")
    parser.add_argument("--json", default=None, metavar="FILE", help="write every raw sample there; -: standard output")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark that was named; returns the exit status. ConfigError for an option that it doesn't have."""
    module = importlib.import_module(f"lab.bench.{args.bench}")
    known = getattr(module, "OPTIONS", ())
    for option in _OPTIONAL:
        if getattr(args, option) is not None and option not in known:
            raise ConfigError(f"bench {args.bench} has no --{option}")
    Effort.of(args, 1)  # a bad --runs or --seconds is said before anything else is looked at
    shown = patient() if args.json is not None else nullcontext()  # with a file, the tables are not the result
    try:
        with apart_from(args.json), shown:
            status: int = module.run(args)
    except Interruption as interruption:
        if interruption.number in ASKED_TO_END:  # as Ctrl-C does, whichever it was; what was measured is kept
            raise KeyboardInterrupt from None
        raise
    return status
