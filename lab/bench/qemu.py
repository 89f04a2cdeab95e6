"""``worldswitch bench qemu``: a stock guest with our Lance over vfio-user, beside the same guest with QEMU's own pcnet.

One QEMU, kernel, initrd, driver and workload; both guests run all the time, each on a network of its own, and are
measured in turn. What QEMU's card does for a port access is a function call in the thread that emulates the processor;
ours is two other processes, and a socket on the way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from lab import preflight
from lab.bench.machines import MODE_CONFIGURATIONS
from lab.bench.qemubars import CONFIGURATIONS, OWN, tail_of_pings, verdicts
from lab.bench.qemuguests import TRACE_FILE, ours, own
from lab.bench.qemuload import UNITS, Guest, access_cost, interrupts, round_trips, transfer
from lab.bench.qemuload import frames as packets_of
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, spread, table
from lab.bench.testbed import Testbed
from lab.bench.validity import Measured, Note, attempted, of_counters, of_cpus, of_packets
from lab.load.disturbance import attended
from lab.readings import DIRECTIONS, each_packet, frames, grown, per_packet, quotient
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
_OURS: Final = ("port_accesses_per_packet", "world_switches_per_packet")
_MOST_PAYLOAD: Final = 1460  # bytes of TCP in a frame of MTU 1500


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

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process that belongs to one of them."""
        return (*self.bed.stack.pids.values(), *(pid for guest in self.guests.values() for pid in guest.pids))


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
        Recorder("qemu", effort.as_map() | {"stack": settings.as_map()}, args.json, progress) as recorder,
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
                metrics = attempted(partial(_accesses_of_own, pcnet, folder / TRACE_FILE, direction))
                _record(recorder, OWN, direction, metrics, 1)
                progress.end()
    return recorder.status


def _record(recorder: Recorder, configuration: str, work: str, metrics: Measured, run: int) -> None:
    keys: dict[str, Note] = {"direction": work} if work in DIRECTIONS else {}
    for metric, value in metrics.items():
        recorder.add(configuration, metric, UNITS[metric], value, run, **keys, **metrics.notes)


def _measured(bench: _Bench, configuration: str, work: str, effort: Effort) -> Measured:
    if configuration != OWN:
        bench.bed.change(**MODE_CONFIGURATIONS[configuration].changes)

    def measure() -> Measured:
        with attended(bench.bed.settings.cpus, bench.pids) as seen:
            found = _once(bench, configuration, work, effort)
        notes = {} if seen.conditions is None else seen.conditions.as_fields()
        return Measured(found, found.notes | notes, *found.faults, *of_cpus(seen.use))

    return attempted(measure)


def _once(bench: _Bench, configuration: str, work: str, effort: Effort) -> Measured:
    virtual = configuration != OWN
    guest = bench.guests[virtual]
    if work == _RTT:
        return Measured(round_trips(guest, effort))
    if work == _ACCESS:
        return Measured(access_cost(guest))
    return _with_our_counters(bench.bed, guest, work, effort) if virtual else _transfer(guest, work, effort)[0]


def _with_our_counters(bed: Testbed, guest: Guest, direction: str, effort: Effort) -> Measured:
    """A transfer through our card: beside the guest's own counts there are ours, and both must agree."""
    before = _counters(bed)
    metrics, packets = _transfer(guest, direction, effort)
    spent = grown(before, _counters(bed))
    costs = per_packet(spent, packets)
    ours = {metric: costs[metric] for metric in _OURS}
    faults = (*of_packets(frames(spent), packets, "the guest's driver says"), *of_counters(spent))
    return Measured(metrics | ours, metrics.notes, *metrics.faults, *faults)


def _counters(bed: Testbed) -> dict[str, int]:
    counters: dict[str, int] = measure(bed.stack)["counters"]
    return counters


def _transfer(guest: Guest, direction: str, effort: Effort) -> tuple[Measured, int]:
    """One transfer, with the interrupts for each frame; and the frames. Bytes arrive in frames, whoever counts them."""
    before = {"packets": packets_of(guest.console), "irqs": interrupts(guest.console)}
    metrics = transfer(guest, direction, effort)
    after = {"packets": packets_of(guest.console), "irqs": interrupts(guest.console)}
    spent = grown(before, after)
    packets = spent.pop("packets")
    least = int(metrics["received_bytes"]) // _MOST_PAYLOAD
    faults = [] if packets >= least else [f"the guest's driver says {packets} frames, the load filled {least}"]
    return Measured(metrics | each_packet(spent, packets), metrics.notes, *faults), packets


def _accesses_of_own(guest: Guest, trace: Path, direction: str) -> Measured:
    def lines() -> int:
        with trace.open("rb") as opened:
            return sum(1 for _ in opened)

    before = lines()
    metrics, packets = _transfer(guest, direction, _COUNTING)
    return Measured(each_packet({"port_accesses": lines() - before}, packets), metrics.notes, *metrics.faults)


def show(recorder: Recorder) -> None:
    """Two tables and how near it came to what it aims at; nothing if nothing has been measured."""
    if not recorder.samples:
        return
    print(table(_HEADER, _transfers(recorder), keys=2), end="\n\n")
    tail = f"{tail_of_pings(recorder)}, ms"
    header = ("configuration", "round trip, ms", tail, "x own", "one access, us", "lost")
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
            f"{sum(values('pings_lost')):.0f}" if values("pings") else NOTHING,
        ]


def _ratio(above: Sequence[float], below: Sequence[float]) -> str:
    found = quotient(above, below)
    return NOTHING if found is None else f"{found:.3f}"
