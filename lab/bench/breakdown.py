"""``worldswitch bench breakdown``: whose time it is while the guest transmits (paper, Tables 1 and 2).

TCP to the peer in operations of 4096 bytes, in version 2.0 and optimised, with the paper's driver on one CPU. The
shares come from a trace (``lab.tracing.shares``), idle time and others' time from /proc/stat. What tracing itself costs
is measured in the same run: the same transfer with tracing off, on, and off again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from lab import preflight
from lab.bench import paper
from lab.bench.machines import MODE_CONFIGURATIONS, Configuration, Machines
from lab.bench.papershares import TABLE_1, TABLE_2, Figure
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, percent, spread, table
from lab.bench.testbed import testbed
from lab.bench.tracedload import traced
from lab.bench.transfer import UNITS, transfer
from lab.bench.validity import Measured, attempted
from lab.bench.window import Observed
from lab.readings import quotient
from lab.textlayout import prose
from lab.tracing.shares import Division, divide
from lab.tracing.switch import switch_tracing
from machine.config import make_settings

__all__ = ["OPTIONS", "WORK", "rest", "run", "show"]

OPTIONS: Final = ("link", "seconds")

_RUNS: Final = 3
_SPARE_SECONDS: Final = 30.0
_PAPER: Final = {"2.0": TABLE_1, "optimised": TABLE_2}
_TRACING: Final = ("off", "on", "off again")
_LOST: Final = "lost_records"
_AVERAGE: Final = "average of "

# row -> (what it is, kinds that make it up, whose events its average counts)
_ROWS: Final[dict[str, tuple[str, tuple[str, ...], str | None]]] = {
    "switching": ("IN/OUTs that must switch to vmapp", ("switching",), None),
    "rap": ("IN/OUTs to the Lance address port (RAP)", ("rap",), None),
    "in_vmm": ("IN/OUTs handled in the vmm, others", ("pic", "status", "other_ports"), None),
    "pic": ("  of these, to the PIC", ("pic",), None),
    "status": ("  of these, to the Lance status register", ("status",), None),
    "irq_delivery": ("delivering virtual IRQs", ("irq_delivery",), None),
    "host_irqs": ("switches for host IRQs", ("host_irqs",), None),
    "tap_write": ("transmitting via the host TAP (VMNet)", ("tap_write",), None),
    "tap_read": ("receiving via the host TAP (VMNet)", ("tap_read",), None),
    "select": ("select() on the host TAP", ("select",), None),
    "lance_transmit": ("emulating the Lance transmit path", ("lance_transmit",), "tap_write"),
    "lance_receive": ("emulating the Lance receive path", ("lance_receive",), "tap_read"),
    "lance_status": ("emulating the Lance status register in vmapp", ("lance_status",), None),
}
_REST: Final = {"guest": "guest: driver, kernel, applications", "others": "others: not of this machine", "idle": "idle"}
WORK: Final = MappingProxyType({row: text for row, (text, _, _) in _ROWS.items()} | _REST)
"""Each row's name in the samples -> what it is, in the order of the paper's tables."""
_HEADER: Final = ("", "%", "us each", "paper: %", "paper: us")
_OF_WHAT: Final = "shares of the total"
_LEGEND: Final = """\
A port access is timed in the guest, from the instruction to the next one, changes of process included, less what vmapp
did for it; the paper's 733 MHz Pentium III timed it within the VMM.\
"""


def run(args: argparse.Namespace) -> int:
    """Measures, prints both tables and the cost of tracing, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    settings = make_settings({"profile": "paper", "driver": "linux22", "link": args.link})
    configurations = [MODE_CONFIGURATIONS[name] for name in _PAPER]
    progress = Progress(effort.rounds * len(configurations))
    facts = effort.as_map() | {"operation_bytes": paper.OPERATION_BYTES, "stack": settings.as_map()}
    with (
        Recorder("breakdown", facts, args.json, progress) as recorder,
        reported(progress, lambda: show(recorder)),
        testbed(settings) as bed,
    ):
        machines = Machines(bed)
        for number, configuration in rounds(configurations, effort, progress, lambda one: one.name):
            found = attempted(partial(_divided, machines, configuration, effort))
            transfers = {state: _transfer(machines, configuration, effort, state) for state in _TRACING}
            if number > 0:
                _record(recorder, configuration, found, transfers, number)
    return recorder.status


def _divided(machines: Machines, configuration: Configuration, effort: Effort) -> Measured:
    """Row -> share of the time (0 to 1), ``_AVERAGE`` of a row -> its average in ns (if any), and records lost."""
    trace, seen, faults = traced(machines, configuration, "loaded", effort)
    division = divide(trace)
    found = {row: division.share(*kinds) for row, (_, kinds, _) in _ROWS.items()}
    for row, (_, kinds, per) in _ROWS.items():
        if average := division.average_ns(*kinds, per=per):
            found[_AVERAGE + row] = average
    return Measured(found | rest(division, seen) | {_LOST: trace.lost}, seen.notes, *faults, *_unlikely(division))


def rest(division: Division, seen: Observed) -> dict[str, float]:
    """Shares of what no record claims: the guest's, others', idle time.

    The guest's applications run on while its processor is halted: what is then not idle is theirs. What others had of
    the CPU is taken from that, as far as there is as much: a process that a third party has preempted counts its own
    row on, and nobody can tell which one it was.
    """
    idle = min(seen.idle_share, division.share("halted"))
    left = division.share("guest", "halted") - idle
    taken = 0.0 if seen.conditions is None else seen.conditions.others + seen.conditions.steal
    others = min(taken, left)
    return {"guest": left - others, "others": others, "idle": idle}


def _unlikely(division: Division) -> Iterator[str]:
    """A load that fills the wire makes the machine switch, trap and write; rows of zeros are of another moment."""
    if not any(division.counts[kind] for kind in ("switching", "tap_write")):
        yield "the trace holds no port access that switches and no frame that is written"


def _transfer(machines: Machines, configuration: Configuration, effort: Effort, state: str) -> Measured:
    """The same load with tracing in that state."""
    stack = machines.bed.stack
    if state == "on":
        switch_tracing(stack, effort.warm_up + effort.seconds + _SPARE_SECONDS)
    try:
        return transfer(machines, configuration, "transmit", effort)
    finally:
        if state == "on":
            switch_tracing(stack, 0)


def _record(
    recorder: Recorder,
    configuration: Configuration,
    found: Measured,
    transfers: Mapping[str, Measured],
    run: int,
) -> None:
    name = configuration.name
    recorder.add(name, _LOST, "records", found[_LOST], run, **found.notes)
    for row in WORK:
        recorder.add(name, "share", "1", found[row], run, work=row, **found.notes)
        if _AVERAGE + row in found:
            recorder.add(name, "average", "ns", found[_AVERAGE + row], run, work=row, **found.notes)
    for state, metrics in transfers.items():
        for metric in ("goodput_mbps", "idle_share"):
            keys = {"tracing": state, "direction": "transmit"} | metrics.notes
            recorder.add(name, metric, UNITS[metric], metrics[metric], run, **keys)


def show(recorder: Recorder) -> None:
    """A table for each mode that has been measured, and what tracing costs in it."""
    for name, published in _PAPER.items():
        if not recorder.values(configuration=name, metric="share"):
            continue  # not measured, or not valid
        number = list(_PAPER).index(name) + 1
        print(prose(f"{name}: time of machine A's CPU while the guest sends (paper: Table {number}, {_OF_WHAT})"))
        print(table(_HEADER, _lines(recorder, name, published)))
        print(prose(_cost(recorder, name)), end="\n\n", flush=True)
    print(prose(_LEGEND))


def _lines(recorder: Recorder, name: str, published: Mapping[str, Figure]) -> Iterator[tuple[str, ...]]:
    for row, text in WORK.items():
        shares = recorder.values(configuration=name, metric="share", work=row)
        averages = recorder.values(configuration=name, metric="average", work=row)
        figure = published.get(row)
        yield (text, percent(shares), spread(averages, scale=0.001), *_published(figure))


def _published(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return NOTHING, NOTHING
    average = NOTHING if figure.average_us is None else f"{figure.average_us:g}"
    return f"{figure.share:.1%}".rstrip("%"), average


def _cost(recorder: Recorder, name: str) -> str:
    parts = []
    goodputs = []
    for state in _TRACING:
        goodput = recorder.values(configuration=name, metric="goodput_mbps", tracing=state)
        idle = recorder.values(configuration=name, metric="idle_share", tracing=state)
        goodputs.append(goodput)
        parts.append(f"{state} {spread(goodput)} Mb/s, {percent(idle)} % idle")
    before, during, after = goodputs
    cost = quotient(during, [*before, *after])
    if cost is None:
        return f"tracing {'; '.join(parts)}"
    verdict = f"it costs {1 - cost:.0%} of the goodput" if cost < 1 else "what it costs is less than the noise"
    return f"tracing {'; '.join(parts)}: {verdict}"
