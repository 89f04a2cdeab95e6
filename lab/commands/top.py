"""``worldswitch top``: what a stack does, once a second."""

from __future__ import annotations

import argparse
import time
from typing import Final

import psutil

from lab import client
from lab.options import add_name
from lab.preflight import require_root
from lab.rates import Sample, rates_between
from lab.rundir import RunDirectory, running_record, state_of
from lab.screen import Screen
from lab.stops import StopRequests
from lab.topview import view
from machine.errors import ConfigError, StackError

__all__ = ["configure", "run"]

_SHORTEST: Final = 0.1  # seconds
_LONGEST: Final = 3600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Which stack, how often, how long."""
    add_name(parser)
    parser.add_argument("--interval", metavar="S", default="1", help="seconds between two pictures (default: 1)")
    parser.add_argument("--once", action="store_true", help="one picture, of one interval")


def run(args: argparse.Namespace) -> int:
    """0 on Ctrl-C, q, or when the stack has ended."""
    interval = _interval(args.interval)
    require_root()
    watch = _Watch(RunDirectory(args.name))
    with StopRequests() as stops, Screen(stops.fds, live=not args.once) as screen:
        before = watch.sample()
        while before is not None and not screen.wait(interval):
            after = watch.sample()
            if after is not None:
                rates = rates_between(before, after)
                screen.show(view(args.name, watch.settings, after.status, rates, screen.bold))
                if args.once:
                    break
            before = after
    if before is None:
        print(f"stack {args.name} has ended")
    return 0


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ConfigError(f"bad interval {text!r}: seconds, from {_SHORTEST} to {_LONGEST:.0f}")
    return seconds


class _Watch:
    """One stack, sampled; StackError if it doesn't run to begin with."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        record = running_record(directory)
        self.settings = record["settings"]
        self._identities = record["processes"]
        self._processes: dict[str, psutil.Process] = {}
        try:
            for role, identity in record["processes"].items():
                self._processes[role] = psutil.Process(identity["pid"])
                self._processes[role].cpu_percent(None)
        except psutil.NoSuchProcess:  # it is just ending, as sample() will find
            self._processes = {}

    def sample(self) -> Sample | None:
        """None when the stack has ended, or is about to."""
        record = self._directory.load()
        if record is None or state_of(record) != "running" or record["processes"] != self._identities:
            return None  # a stack of the same name that was started meanwhile is another one
        self.settings = record["settings"]  # `worldswitch set` may have changed them
        status = client.ask(self._directory, {"command": "status"})
        if status is None:
            return None
        if status.get("event") == "failed":  # it is busy, and not about to end
            raise StackError(status["message"])
        try:
            cpu = {role: process.cpu_percent(None) for role, process in self._processes.items()}
        except psutil.NoSuchProcess:
            return None
        return Sample(time.monotonic(), status, cpu)
