"""``worldswitch bench qemu``: a stock guest with our Lance over vfio-user, beside the same guest with QEMU's own pcnet.

One QEMU, kernel, initrd, driver and workload; both guests run all the time, each on a network of its own, and are
measured in turn. What QEMU's card does for a port access is a function call in the thread that emulates the processor;
ours is two other processes, and a socket on the way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lab import preflight
from lab.bench.machines import MODE_CONFIGURATIONS
from lab.bench.qemubars import CONFIGURATIONS, DIRECTIONS, OWN, quotient, tail_of, verdicts
from lab.bench.qemuguests import TRACE_FILE, ours, own
from lab.bench.qemuload import UNITS, Guest, access_cost, frames, interrupts, per_packet, round_trips, transfer
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, spread, table
from lab.bench.testbed import Testbed
from lab.status import measure
from lab.textlayout import prose
from machine.config import make_settings
from netbackend.rate import format_rate, parse_rate

__all__ = ["OPTIONS", "run", "show"]

OPTIONS: Final = ("link", "seconds")

_RTT: Final = "round trips"
_ACCESS: Final = "one access"
_WORKS: Final = (_RTT, *DIRECTIONS, _ACCESS)
_RUNS: Final = 5
_COUNTING: Final = Effort(runs=1, seconds=2.0, warm_up=0.0)


_HEADER: Final = (
    "configuration",
    "direction",
    "Mb/s",
    "of own",
    "accesses",
    "switches",
    "IRQs",
    "resent",
)
_LEGEND: Final = """\
Round trips: pings from the peer. Accesses, world switches, interrupts: for each frame through the card, both ways;
accesses to QEMU's own card were counted by its trace points in a run of their own, which they slow down. One access:
by the guest's clock, half a read of a statistic. Medians [least..most].\
"""


class _Bench(NamedTuple):
    """Both guests."""

    bed: Testbed
    guests: dict[bool, Guest]  # by: whether it is ours


def run(args: argparse.Namespace) -> int:
    """Measures, prints two tables, writes the samples."""
    preflight.check_machine()
    preflight.require_program("iperf3", "iperf3")
    preflight.require_program("ping", "iputils-ping")
    effort = Effort.of(args, _RUNS)
    link = format_rate(parse_rate(args.link)) if args.link is not None else "100mbit"
    settings = make_settings({"profile": "fast", "guest": "qemu", "link": link})
    jobs = [(configuration, work) for configuration in CONFIGURATIONS for work in _WORKS]
    progress = Progress(effort.rounds * len(jobs) + len(DIRECTIONS))
    with (
        Recorder("qemu", effort.as_map() | {"stack": settings.as_map()}, args.json) as recorder,
        reported(progress, lambda: show(recorder)),
    ):
        with ours(settings) as (bed, lance), own(settings) as (_, pcnet):
            bench = _Bench(bed, {True: lance, False: pcnet})
            for number, (configuration, work) in rounds(jobs, effort, progress, " ".join):
                metrics = _measured(bench, configuration, work, effort)
                if number > 0:
                    _record(recorder, configuration, work, metrics, number)
        with own(settings, traced=True) as (folder, pcnet):
            for direction in DIRECTIONS:
                progress.begin(f"{OWN}, {direction}, counting accesses")
                metrics = _accesses_of_own(pcnet, folder / TRACE_FILE, direction)
                _record(recorder, OWN, direction, metrics, 1)
                progress.end()
    return 0


def _record(recorder: Recorder, configuration: str, work: str, metrics: dict[str, float], run: int) -> None:
    keys = {"direction": work} if work in DIRECTIONS else {}
    for metric, value in metrics.items():
        recorder.add(configuration, metric, UNITS[metric], value, run, **keys)


def _measured(bench: _Bench, configuration: str, work: str, effort: Effort) -> dict[str, float]:
    virtual = configuration != OWN
    guest = bench.guests[virtual]
    if virtual:
        bench.bed.change(**MODE_CONFIGURATIONS[configuration].changes)
    if work == _RTT:
        return round_trips(guest, effort)
    if work == _ACCESS:
        return access_cost(guest)
    count = (lambda: _counters(bench.bed)) if virtual else dict
    return _transfer(guest, work, effort, count)


def _counters(bed: Testbed) -> dict[str, int]:
    counters = measure(bed.stack)["counters"]
    return {
        "port_accesses": counters["io_in"] + counters["io_out"],
        "world_switches": counters["world_switches"],
    }


def _transfer(guest: Guest, direction: str, effort: Effort, count: Callable[[], dict[str, int]]) -> dict[str, float]:
    """One transfer, and what each frame cost: its interrupts, and whatever ``count`` counts."""

    def everything() -> dict[str, int]:
        return {"packets": frames(guest.console), "irqs": interrupts(guest.console)} | count()

    before = everything()
    metrics = transfer(guest, direction, effort)
    grown = {name: value - before[name] for name, value in everything().items()}
    packets = grown.pop("packets")
    return metrics | per_packet(grown, packets)


def _accesses_of_own(guest: Guest, trace: Path, direction: str) -> dict[str, float]:
    def count() -> dict[str, int]:
        with trace.open("rb") as lines:
            return {"port_accesses": sum(1 for _ in lines)}

    metrics = _transfer(guest, direction, _COUNTING, count)
    return {"port_accesses_per_packet": metrics["port_accesses_per_packet"]}


def show(recorder: Recorder) -> None:
    """Two tables and how near it came to what it aims at; nothing if nothing has been measured."""
    if not recorder.samples:
        return
    print(table(_HEADER, _transfers(recorder), keys=2), end="\n\n")
    header = ("configuration", "round trip, ms", f"{tail_of(recorder)}, ms", "x own", "one access, us")
    print(table(header, _singles(recorder)))
    print(prose(_LEGEND))
    for _, line in verdicts(recorder):
        print(prose(line))


def _transfers(recorder: Recorder) -> Iterable[list[str]]:
    for direction in DIRECTIONS:
        for configuration in CONFIGURATIONS:

            def values(metric: str, name: str = configuration, direction: str = direction) -> list[float]:
                return recorder.values(configuration=name, metric=metric, direction=direction)

            yield [
                configuration,
                direction,
                spread(values("goodput_mbps")),
                _ratio(values("goodput_mbps"), values("goodput_mbps", OWN)),
                spread(values("port_accesses_per_packet"), 2),
                spread(values("world_switches_per_packet"), 2),
                spread(values("irqs_per_packet"), 3),
                spread(values("retransmits"), 0),
            ]


def _singles(recorder: Recorder) -> Iterable[list[str]]:
    for configuration in CONFIGURATIONS:

        def values(metric: str, name: str = configuration) -> list[float]:
            return recorder.values(configuration=name, metric=metric)

        yield [
            configuration,
            spread(values("rtt_p50_ms"), 3),
            spread(values("rtt_p99_ms"), 3),
            _ratio(values("rtt_p50_ms"), values("rtt_p50_ms", OWN)),
            spread(values("access_us"), 2),
        ]


def _ratio(above: Sequence[float], below: Sequence[float]) -> str:
    found = quotient(above, below)
    return NOTHING if found is None else f"{found:.3f}"
