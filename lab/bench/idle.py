"""``worldswitch bench idle``: how much of machine A's CPU is left while it sends (paper, section 3.5, Table 3).

TCP to the peer in operations of 4096 bytes. Idle time is the kernel's own, of machine A's CPUs (/proc/stat); beside it
stands what the guest itself counts from HLT to the event that ends it. As in the paper, the guest's HLT halts within
the vmm; how it is in ordinary use, with HLT a world switch to a vmapp that blocks in select(), is measured too.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from math import ceil
from typing import Final

from lab import preflight
from lab.bench import paper
from lab.bench.guests import check_guest, driver_of, guest_keys, stock_guest
from lab.bench.machines import NATIVE, Configuration, Machines, mode
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, percent, spread, table
from lab.bench.testbed import testbed
from lab.bench.transfer import record, transfer
from lab.bench.validity import believed
from lab.readings import median
from lab.textlayout import prose
from machine.config import Settings, make_settings
from machine.errors import BenchError
from netbackend.rate import format_rate, parse_rate

__all__ = ["CPU_BOUND", "OPTIONS", "configurations", "lowest_bound_rate", "run", "show"]

OPTIONS: Final = ("guest", "link", "profile", "seconds")
CPU_BOUND: Final = "cpu-bound"  # as --link: the lowest rate at which 2.0 has no idle time left

_RUNS: Final = 5
_HALTS: Final = ("vmm", "host")  # the first is how the paper measured
_DIRECTION: Final = "transmit"
_PAYLOAD_SHARE: Final = 1448 / 1538  # of what a full frame occupies on the wire: MTU 1500, TCP timestamps
_STEP: Final = 1.1
_ATTEMPTS: Final = 8
_MEGABIT: Final = 1_000_000
_LEGEND: Final = "HLT vmm: the guest's HLT halts in the vmm, as in the paper's measurement; host: it switches to vmapp."
_STOCK_LEGEND: Final = "A stock guest: its HLT is QEMU's, not ours to count. The load is iperf3, in all configurations."
_HEADER: Final = (
    "configuration",
    "HLT",
    "Mb/s",
    "idle %",
    "guest's own %",
    "paper: idle %",
)

Job = tuple[Configuration, str]


def configurations(*, foreign: bool = False) -> dict[str, dict[str, Configuration]]:
    """Table 3's rows in its order: name -> HLT -> configuration.

    "-" for the HLT of the native machine, and of a foreign guest, whose HLT we are not told.
    """
    steps: dict[str, tuple[str, dict[str, bool]]] = {
        "optimised": ("optimised", {}),
        "without notification": ("optimised", {"notification": False}),
        "ports": ("ports", {}),
        "2.0": ("2.0", {}),
    }
    halts = {NOTHING: "host"} if foreign else {hlt: hlt for hlt in _HALTS}
    return {"native": {NOTHING: NATIVE}} | {
        name: {label: mode(base, name, hlt=hlt, **changes) for label, hlt in halts.items()}
        for name, (base, changes) in steps.items()
    }


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    search = args.link == CPU_BOUND
    settings = make_settings({"profile": args.profile, "link": "none" if search else args.link, "guest": args.guest})
    parse_rate(settings.link)
    check_guest(settings)
    facts = effort.as_map() | {"operation_bytes": paper.OPERATION_BYTES, "stack": settings.as_map()}
    rows = configurations(foreign=settings.foreign)
    jobs = [(configuration, hlt) for halts in rows.values() for hlt, configuration in halts.items()]
    progress = Progress(effort.rounds * len(jobs))
    with (
        Recorder("idle", facts, args.json, progress) as recorder,
        reported(progress, lambda: show(recorder, settings)),
        testbed(settings) as bed,
        stock_guest(bed) as guest,
    ):
        machines = Machines(bed, guest=guest)
        link = lowest_bound_rate(machines, effort) if search else settings.link
        keys = {"direction": _DIRECTION, "link": link, "profile": settings.profile} | guest_keys(settings)
        for number, (configuration, hlt) in rounds(jobs, effort, progress, _label):
            metrics = transfer(machines, configuration, _DIRECTION, effort)
            if number > 0:
                record(recorder, configuration, metrics, number, hlt=hlt, **keys)
    return recorder.status


def _label(job: Job) -> str:
    configuration, hlt = job
    return configuration.name if hlt == NOTHING else f"{configuration.name}, HLT in the {hlt}"


def lowest_bound_rate(machines: Machines, effort: Effort) -> str:
    """Shapes the wire to the lowest rate found at which version 2.0 is CPU-bound, and returns it, as in "87mbit".

    Starts where the wire would carry just what 2.0 manages without a limit. BenchError if no rate will do.
    """
    version2 = next(iter(configurations(foreign=machines.bed.settings.foreign)["2.0"].values()))
    machines.bed.set_link("none")
    goodput = believed(transfer(machines, version2, _DIRECTION, effort))["goodput_mbps"]
    megabits = max(1, ceil(goodput / _PAYLOAD_SHARE))
    link = "none"
    for _ in range(_ATTEMPTS):
        link = format_rate(megabits * _MEGABIT)
        machines.bed.set_link(link)
        if believed(transfer(machines, version2, _DIRECTION, effort))["idle_share"] < paper.CPU_BOUND_IDLE:
            return link
        megabits = ceil(megabits * _STEP)
    raise BenchError(f"mode 2.0 is not CPU-bound at {link} either; is another process in the way?")


def show(recorder: Recorder, settings: Settings) -> None:
    """The table, and whether the paper's order of idle times was found; nothing if nothing has been measured."""
    if not recorder.samples:
        return
    facts = recorder.samples[0]
    title = f"Idle time while sending {paper.OPERATION_BYTES}-byte operations, link {facts['link']}, {facts['profile']}"
    print(prose(f"{title}, {driver_of(settings)}" if settings.foreign else title))
    every = configurations(foreign=settings.foreign)
    rows = [_row(recorder, settings, name, hlt) for name, halts in every.items() for hlt in halts]
    print(table(_HEADER, rows, keys=2))
    print(prose(_order(recorder, list(every))))
    print(prose(_STOCK_LEGEND if settings.foreign else _LEGEND))
    print(
        prose("Idle: of machine A's CPUs, from /proc/stat. Medians [least..most]. Paper: Table 3, 733 MHz, 100 Mb/s.")
    )
    if facts["link"] == "100mbit" and not _is_bound(recorder):
        print(prose(f"2.0 is not CPU-bound at this rate: --link {CPU_BOUND} finds one at which it is."))


def _row(recorder: Recorder, settings: Settings, name: str, hlt: str) -> list[str]:
    def values(metric: str) -> list[float]:
        return recorder.values(configuration=name, hlt=hlt, metric=metric)

    quoted = hlt != _HALTS[1] and not settings.foreign
    return [
        name,
        hlt,
        spread(values("goodput_mbps")),
        percent(values("idle_share")),
        percent(values("guest_idle_share")),
        f"{paper.IDLE_SHARES[name]:.1%}".rstrip("%") if quoted else NOTHING,
    ]


def _idle(recorder: Recorder, name: str) -> list[float]:
    """As the paper measured it, or, where the guest's HLT is not ours, as it is."""
    return [
        value
        for hlt in (_HALTS[0], NOTHING)
        for value in recorder.values(configuration=name, hlt=hlt, metric="idle_share")
    ]


def _order(recorder: Recorder, names: list[str]) -> str:
    """Whether the medians are in the paper's order, most first, and which steps the runs' spread hides."""
    every = [_idle(recorder, name) for name in names]
    if not all(every):
        return "The order is not known: not every configuration was measured."
    shares = [median(values) for values in every]
    ordered = shares == sorted(shares, reverse=True)
    hidden = [
        f"{name} to {lower}"
        for (name, values), (lower, less) in pairwise(zip(names, every, strict=True))
        if min(values) <= max(less)
    ]
    verdict = f"Idle time is {'' if ordered else 'NOT '}in the paper's order: {' >= '.join(names)}"
    return f"{verdict}; steps within the spread: {', '.join(hidden) or 'none'}."


def _is_bound(recorder: Recorder) -> bool:
    values = _idle(recorder, "2.0")
    return bool(values) and median(values) < paper.CPU_BOUND_IDLE
