"""``worldswitch bench latency``: where the one OUT that transmits spends its time (paper section 3.2, Figure 5).

Lone packets (small datagrams, 200 a second) and a TCP transfer that fills the wire, in version 2.0 and optimised, with
the paper's driver on one CPU. The times come from the trace (``machine.trace``), and so contain what tracing costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Final

from lab import preflight
from lab.bench import paper
from lab.bench.machines import MODE_CONFIGURATIONS, Configuration, Machines
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import table
from lab.bench.testbed import testbed
from lab.bench.tracedload import LOADS, traced
from lab.bench.validity import Measured, attempted
from lab.readings import median, percentile, tail_label
from lab.textlayout import prose, screen_width
from lab.tracing.segments import ON_THE_WIRE, SEGMENTS, TOTAL, transmissions
from machine.config import make_settings
from machine.errors import BenchError

__all__ = ["OPTIONS", "run", "show"]

OPTIONS: Final = ("link", "seconds")

_MODES: Final = ("2.0", "optimised")
_RUNS: Final = 3
_BAR_CELLS: Final = 30
_SHORT_BAR_CELLS: Final = 10  # where longer ones would cost the labels a line each
_WIDE_SCREEN: Final = 110
_MOST_RAW: Final = 500  # raw samples that the record keeps of each measurement
_FEWEST: Final = 5
_LOST: Final = "lost_records"
_LEGEND: Final = """\
Times in us, with the trace's own cost in them (see bench breakdown); share: of the sum of the medians.
The paper has Figure 5 as a picture only.\
"""
_MEANINGS: Final = SEGMENTS | {ON_THE_WIRE: "= frame on the wire", TOTAL: "= the whole OUT"}

Job = tuple[Configuration, str]


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table for each mode and load, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    settings = make_settings({"profile": "paper", "driver": "linux22", "link": args.link})
    jobs = [(MODE_CONFIGURATIONS[name], load) for name in _MODES for load in LOADS]
    progress = Progress(effort.rounds * len(jobs))
    facts = effort.as_map() | {"operation_bytes": paper.OPERATION_BYTES, "stack": settings.as_map()}
    with (
        Recorder("latency", facts, args.json, progress) as recorder,
        reported(progress, lambda: show(recorder)),
        testbed(settings) as bed,
    ):
        machines = Machines(bed)
        for number, (configuration, load) in rounds(jobs, effort, progress, _label):
            _measure(recorder, machines, configuration, load, effort, number)
    return recorder.status


def _label(job: Job) -> str:
    return f"{job[0].name}, {LOADS[job[1]]}"


def _measure(
    recorder: Recorder, machines: Machines, configuration: Configuration, load: str, effort: Effort, run: int
) -> None:
    found: list[dict[str, int]] = []

    def measure() -> Measured:
        trace, seen, faults = traced(machines, configuration, load, effort)
        found[:] = transmissions(trace)
        if len(found) < _FEWEST:
            raise BenchError(f"only {len(found)} transmitting OUTs in the trace of {configuration.name}; use --seconds")
        return Measured({_LOST: trace.lost}, seen.notes, *faults)

    metrics = attempted(measure)
    if run < 1:
        return
    step = max(1, len(found) // _MOST_RAW)
    for name in _MEANINGS:
        for value in [times[name] for times in found][::step]:
            recorder.add(configuration.name, name, "ns", value, run, load=load, **metrics.notes)
    recorder.add(configuration.name, _LOST, "records", metrics[_LOST], run, load=load, **metrics.notes)


def show(recorder: Recorder) -> None:
    """One table for each mode and load that has been measured."""
    for name in _MODES:
        for load, text in LOADS.items():
            found = {metric: recorder.values(configuration=name, metric=metric, load=load) for metric in _MEANINGS}
            if found[TOTAL]:
                print(prose(f"{name}, {text}: {len(found[TOTAL])} OUTs that transmit"))
                header = ("segment", "p50", tail_label(len(found[TOTAL])), "share", "")
                print(table(header, _rows(found)), end="\n\n", flush=True)
    print(prose(_LEGEND))


def _rows(found: Mapping[str, list[float]]) -> Iterable[tuple[str, ...]]:
    whole = sum(median(found[name]) for name in SEGMENTS) or 1.0
    longest = _BAR_CELLS if screen_width() >= _WIDE_SCREEN else _SHORT_BAR_CELLS
    for name, meaning in _MEANINGS.items():
        middle = median(found[name])
        cells = (meaning, f"{middle / 1000:.1f}", f"{percentile(found[name], 99) / 1000:.1f}")
        if name in SEGMENTS:
            share = middle / whole
            yield (*cells, f"{share:.0%}", ("#" * round(share * longest)).ljust(longest))
        else:
            yield cells
