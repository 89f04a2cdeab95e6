"""``worldswitch bench handoff``: what handing control over costs, layer by layer.

For each doorbell, on one CPU and across two: the round trip of (a) the raw primitive between two bare
processes, (b) a trap that the vmm answers, (c) a trap that switches to vmapp; and what b and c cost as
multiples of a. Across two CPUs the guest has one, vmm and vmapp have the other. The three are measured in turn,
run by run, so that a change of the machine's speed hits all.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import subprocess
import sys
from typing import Final

from lab import preflight
from lab.bench.rounds import Effort
from lab.bench.samples import Recorder
from lab.bench.testbed import testbed
from lab.bench.validity import Measured, Note, attempted
from lab.load.disturbance import Conditions, attended
from lab.load.place import environment
from lab.readings import LAYERS, median, percentile, quotient
from machine.config import make_settings
from machine.doorbell import DOORBELLS, check_sound
from machine.errors import BenchError, UnsoundDoorbellError

__all__ = ["run"]

_ROUNDS: Final = 5000
_RUNS: Final = 5
_PATIENCE_SECONDS: Final = 60.0
_WARM_UP: Final = 0.1  # the share of round trips, at the start, that does not count


def run(args: argparse.Namespace) -> int:
    """Measures, prints one table, writes the samples."""
    preflight.check_machine()
    runs = Effort.of(args, _RUNS).runs
    rounds = _ROUNDS // 5 if args.quick else _ROUNDS
    placements = _placements()
    settings = {"runs": runs, "rounds": rounds, "mode": "2.0"}
    with Recorder("handoff", settings, args.json) as recorder:
        for kind in DOORBELLS:
            for placement, cpus in placements.items():
                for number in range(1, runs + 1):
                    _measure(recorder, kind, placement, cpus, rounds, number)
                _show(recorder, kind, placement)
    return recorder.status


def _placements() -> dict[str, tuple[int, ...]]:
    cpus = sorted(os.sched_getaffinity(0))
    placements: dict[str, tuple[int, ...]] = {"same CPU": (cpus[0],)}
    if len(cpus) > 1:
        placements["across CPUs"] = (cpus[0], cpus[1])
    return placements


def _measure(recorder: Recorder, kind: str, placement: str, cpus: tuple[int, ...], rounds: int, number: int) -> None:
    try:
        check_sound(kind, cpus)
    except UnsoundDoorbellError as error:
        print(f"{kind}, {placement}: {error}", file=sys.stderr)
        return
    times: dict[str, list[int]] = {}

    def measure() -> Measured:
        raw, notes = _raw(kind, cpus, rounds)
        traps, worse = _traps(kind, cpus, rounds)
        times.update({"raw": raw} | traps)
        return Measured({}, _worse(notes, worse), *_short(times, rounds))

    keys: dict[str, Note] = {"doorbell": kind, "placement": placement, **attempted(measure).notes}
    for layer, values in times.items():
        kept = values[int(len(values) * _WARM_UP) :]
        for metric, value in (("p50", median(kept)), ("p99", percentile(kept, 99))):
            recorder.add(layer, f"round_trip_{metric}", "ns", value, number, **keys)
    for layer in ("vmm", "vmapp"):
        ratio = quotient(times[layer], times["raw"])
        if ratio is not None:
            recorder.add(layer, "ratio_to_raw", "1", ratio, number, **keys)


def _short(times: dict[str, list[int]], rounds: int) -> list[str]:
    """A layer that made fewer round trips than asked for, or took no time for them, was not measured."""
    return [
        f"{len(values)} of {rounds} round trips of {LAYERS[layer]}, the quickest {min(values, default=0)} ns"
        for layer, values in times.items()
        if len(values) < rounds or min(values) <= 0
    ]


def _worse(*conditions: Conditions | None) -> dict[str, Note]:
    """Of the two parts of a measurement, the conditions of the one that was disturbed more."""
    known = [one for one in conditions if one is not None]
    return dict(max(known, key=lambda one: one.others + one.steal).as_fields()) if known else {}


def _raw(kind: str, cpus: tuple[int, ...], rounds: int) -> tuple[list[int], Conditions | None]:
    command = [sys.executable, "-P", "-m", "lab.bench.bare", kind, str(cpus[0]), str(cpus[-1]), str(rounds)]
    try:
        with attended(cpus) as seen:
            done = subprocess.run(
                command, check=True, capture_output=True, timeout=_PATIENCE_SECONDS, env=environment()
            )
    except (subprocess.SubprocessError, OSError) as error:
        raise BenchError(f"the bare {kind} processes did not finish: {error}") from error
    times: list[int] = json.loads(done.stdout)
    return times, seen.conditions


def _traps(kind: str, cpus: tuple[int, ...], rounds: int) -> tuple[dict[str, list[int]], Conditions | None]:
    settings = make_settings({"doorbell": kind, "cpus": cpus, "link": "none", "probe_rounds": rounds})
    with testbed(settings) as bed:
        for role, pid in bed.stack.pids.items():
            os.sched_setaffinity(pid, {cpus[0] if role == "guest" else cpus[-1]})
        with attended(cpus, tuple(bed.stack.pids.values())) as seen:
            bed.stack.send("guest", {"command": "probe"})
            message = bed.stack.ask("guest", "probed", _PATIENCE_SECONDS)
    return {layer: list(array.array("Q", message[layer])) for layer in ("vmm", "vmapp")}, seen.conditions


def _show(recorder: Recorder, kind: str, placement: str) -> None:
    where = {"doorbell": kind, "placement": placement}
    if not recorder.values(configuration="raw", metric="round_trip_p50", **where):
        return
    print(f"{kind}, {placement}")
    for layer, label in LAYERS.items():
        p50 = median(recorder.values(configuration=layer, metric="round_trip_p50", **where)) / 1000
        p99 = median(recorder.values(configuration=layer, metric="round_trip_p99", **where)) / 1000
        ratios = recorder.values(configuration=layer, metric="ratio_to_raw", **where)
        times = f"{median(ratios):5.2f} x raw" if ratios else ""
        print(f"  {label:27} p50 {p50:7.1f} us   p99 {p99:7.1f} us   {times}".rstrip(), flush=True)
