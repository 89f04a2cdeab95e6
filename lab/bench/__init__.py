"""The benchmarks: ``worldswitch bench NAME``. Each module has ``run(args)``, which prints a table and writes JSON."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Final

__all__ = ["BENCHES", "configure", "run"]

BENCHES: Final = {
    "handoff": "round trips: two bare processes, a trap the vmm answers, a trap that switches to vmapp",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments that every benchmark has."""
    listing = "\n".join(f"  {name:12} {text}" for name, text in BENCHES.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"benchmarks:\n{listing}"
    parser.add_argument("bench", choices=tuple(BENCHES), metavar="NAME", help="see below")
    parser.add_argument("--runs", type=int, default=None, help="how often everything is measured")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: to try it, not to quote it")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write every raw sample there")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark that was named; returns the exit status."""
    status: int = importlib.import_module(f"lab.bench.{args.bench}").run(args)
    return status
