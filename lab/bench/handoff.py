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
from lab.bench.samples import Recorder, median, percentile
from lab.bench.testbed import testbed
from machine.config import make_settings
from machine.doorbell import DOORBELLS, check_sound
from machine.errors import BenchError, UnsoundDoorbellError

__all__ = ["run"]

_ROUNDS: Final = 5000
_RUNS: Final = 5
_PATIENCE_SECONDS: Final = 60.0
_WARM_UP: Final = 0.1  # the share of round trips, at the start, that does not count
_LAYERS: Final = {"raw": "raw primitive", "vmm": "trap, vmm", "vmapp": "trap, vmapp"}


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
                for number in range(runs):
                    _measure(recorder, kind, placement, cpus, rounds, number)
                _show(recorder, kind, placement)
    return 0


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
    times = {"raw": _raw(kind, cpus, rounds)} | _traps(kind, cpus, rounds)
    for layer, values in times.items():
        kept = values[int(len(values) * _WARM_UP) :]
        for metric, value in (("p50", median(kept)), ("p99", percentile(kept, 99))):
            recorder.add(layer, f"round_trip_{metric}", "ns", value, number, doorbell=kind, placement=placement)
    raw = median(times["raw"])
    for layer in ("vmm", "vmapp"):
        ratio = median(times[layer]) / raw
        recorder.add(layer, "ratio_to_raw", "1", ratio, number, doorbell=kind, placement=placement)


def _raw(kind: str, cpus: tuple[int, ...], rounds: int) -> list[int]:
    command = [sys.executable, "-P", "-m", "lab.bench.bare", kind, str(cpus[0]), str(cpus[-1]), str(rounds)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        raise BenchError(f"the bare {kind} processes did not finish: {error}") from error
    times: list[int] = json.loads(done.stdout)
    return times


def _traps(kind: str, cpus: tuple[int, ...], rounds: int) -> dict[str, list[int]]:
    settings = make_settings({"doorbell": kind, "cpus": cpus, "link": "none", "probe_rounds": rounds})
    with testbed(settings) as bed:
        for role, pid in bed.stack.pids.items():
            os.sched_setaffinity(pid, {cpus[0] if role == "guest" else cpus[-1]})
        bed.stack.send("guest", {"command": "probe"})
        message = bed.stack.ask("guest", "probed", _PATIENCE_SECONDS)
    return {layer: list(array.array("Q", message[layer])) for layer in ("vmm", "vmapp")}


def _show(recorder: Recorder, kind: str, placement: str) -> None:
    where = {"doorbell": kind, "placement": placement}
    if not recorder.values(configuration="raw", metric="round_trip_p50", **where):
        return
    print(f"{kind}, {placement}")
    for layer, label in _LAYERS.items():
        p50 = median(recorder.values(configuration=layer, metric="round_trip_p50", **where)) / 1000
        p99 = median(recorder.values(configuration=layer, metric="round_trip_p99", **where)) / 1000
        ratios = recorder.values(configuration=layer, metric="ratio_to_raw", **where)
        times = f"{median(ratios):5.2f} x raw" if ratios else ""
        print(f"  {label:14} p50 {p50:7.1f} us   p99 {p99:7.1f} us   {times}", flush=True)
