"""``worldswitch bench ping``: round-trip times through the virtual NIC beside native ones, each profile at its best.

Two paces: a request every 5 ms, between which ping itself never sleeps, so that processors and caches stay warm, and
one every 200 ms, which finds them idle and cold.
Not an experiment of the paper, which measured throughput only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from lab import preflight
from lab.bench.machines import MODE_CONFIGURATIONS, NATIVE, Configuration, Machines
from lab.bench.remarks import beyond_native
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, spread, table, warn
from lab.bench.testbed import testbed
from lab.bench.validity import Measured, attempted, of_counters, of_cpus, of_frames
from lab.bench.window import watching
from lab.load.ping import PingResult, ping
from lab.readings import grown, median
from machine.config import PROFILES, make_settings
from machine.errors import BenchError

__all__ = ["CONFIGURATIONS", "OPTIONS", "PACES", "RTT", "run", "show"]

OPTIONS: Final = ("link", "profile", "seconds")
CONFIGURATIONS: Final = (NATIVE, MODE_CONFIGURATIONS["2.0"], MODE_CONFIGURATIONS["optimised"])
PACES: Final = (0.005, 0.2)
"""Seconds from one echo request to the next."""
RTT: Final = "rtt_ms"

_RUNS: Final = 3
_FEWEST: Final = 5
_DEFAULT_LINK: Final = "none"  # the wire's queue is not what is measured
_HEADER: Final = ("configuration", "every ms", "median ms", "above native ms", "lost")


@dataclass(frozen=True, slots=True)
class Job:
    """One series of requests."""

    configuration: Configuration
    pace: float

    @property
    def label(self) -> str:
        """For the progress bar."""
        return f"{self.configuration.name}, a request every {self.pace * 1000:g} ms"


_JOBS: Final = tuple(Job(configuration, pace) for pace in PACES for configuration in CONFIGURATIONS)


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table for each profile, writes the samples: one for each answer."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    profiles = tuple(PROFILES) if args.profile is None else (args.profile,)
    stacks = {name: make_settings({"profile": name, "link": args.link or _DEFAULT_LINK}) for name in profiles}
    progress = Progress(effort.rounds * len(_JOBS) * len(profiles))
    facts = effort.as_map() | {"stacks": [settings.as_map() for settings in stacks.values()]}
    with Recorder("ping", facts, args.json, progress) as recorder, reported(progress, lambda: show(recorder)):
        for profile, settings in stacks.items():
            with ExitStack() as stack:
                machines = Machines(stack.enter_context(testbed(settings)))
                for number, job in rounds(_JOBS, effort, progress, lambda job: job.label):
                    _measure(recorder, machines, job, effort, number, profile)
    return recorder.status


def _measure(recorder: Recorder, machines: Machines, job: Job, effort: Effort, number: int, profile: str) -> None:
    times: list[float] = []

    def measure() -> Measured:
        result, metrics = _pinged(machines, job, effort)
        times[:] = result.rtts_ms
        return metrics

    metrics = attempted(measure)
    if number < 1:
        return
    keys = {"profile": profile, "pace_ms": job.pace * 1000} | metrics.notes
    for value in times:
        recorder.add(job.configuration.name, RTT, "ms", value, number, **keys)
    recorder.add(job.configuration.name, "lost", "packets", metrics["lost"], number, **keys)


def _pinged(machines: Machines, job: Job, effort: Effort) -> tuple[PingResult, Measured]:
    """The answers; each came in a frame that the card has counted, and so has the request."""
    virtual = job.configuration.virtual
    with machines.standing(job.configuration) as (near, far):
        count = max(_FEWEST, round(effort.seconds / job.pace))
        before = machines.counters() if virtual else {}
        with watching(machines) as seen:
            result = ping(near, far.address, count=count, interval=job.pace)
        spent = grown(before, machines.counters()) if virtual else {}
    if not result.rtts_ms:
        raise BenchError(f"{job.configuration.name}: nobody answered any of {result.sent} echo requests")
    faults = [*of_cpus(seen.use)]
    if virtual:
        faults += [*of_frames(spent, 2 * len(result.rtts_ms)), *of_counters(spent)]
    notes = {} if seen.conditions is None else seen.conditions.as_fields()
    return result, Measured({"lost": result.lost}, notes, *faults)


def show(recorder: Recorder) -> None:
    """One table for each profile that has been measured."""
    for profile in PROFILES:
        rows = list(_rows(recorder, profile))
        if rows:
            print(f"ping, profile {profile}")
            print(table(_HEADER, rows, keys=2))
            for line in _beyond_native(recorder, profile):
                warn(line)
            print(flush=True)


def _beyond_native(recorder: Recorder, profile: str) -> Iterable[str]:
    for pace in PACES:
        keys = {"metric": RTT, "profile": profile, "pace_ms": pace * 1000}
        found = {
            f"{c.name}, every {pace * 1000:g} ms": recorder.values(configuration=c.name, **keys) for c in CONFIGURATIONS
        }
        yield from beyond_native(found, recorder.values(configuration=NATIVE.name, **keys), more_is_better=False)


def _rows(recorder: Recorder, profile: str) -> Iterable[tuple[str, ...]]:
    for job in _JOBS:
        keys = {"profile": profile, "pace_ms": job.pace * 1000}
        times = recorder.values(configuration=job.configuration.name, metric=RTT, **keys)
        native = recorder.values(configuration=NATIVE.name, metric=RTT, **keys)
        if times:
            above = f"{median(times) - median(native):.3f}" if native else NOTHING
            lost = sum(recorder.values(configuration=job.configuration.name, metric="lost", **keys))
            yield job.configuration.name, f"{job.pace * 1000:g}", spread(times, 3), above, f"{lost:.0f}"
