"""``worldswitch bench breakdown``: whose time it is while the guest transmits (paper, Tables 1 and 2).

TCP to the peer in operations of 4096 bytes, in version 2.0 and optimised, with the paper's driver on one CPU. The
shares come from a trace (``lab.tracing.shares``), idle time from /proc/stat. What tracing itself costs is measured in
the same run: the same transfer with tracing off, on, and off again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from lab import preflight
from lab.bench import paper
from lab.bench.machines import MODE_CONFIGURATIONS, Configuration, Machines
from lab.bench.papershares import TABLE_1, TABLE_2, Figure
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder, median
from lab.bench.tables import NOTHING, spread, table
from lab.bench.testbed import testbed
from lab.bench.tracedload import traced
from lab.bench.transfer import transfer
from lab.bench.window import idle_share
from lab.textlayout import prose
from lab.tracing.shares import Division, divide
from lab.tracing.switch import switch_tracing
from machine.config import make_settings

__all__ = ["OPTIONS", "WORK", "run", "show"]

OPTIONS: Final = ("link", "seconds")

_RUNS: Final = 3
_SPARE_SECONDS: Final = 30.0
_PAPER: Final = {"2.0": TABLE_1, "optimised": TABLE_2}
_TRACING: Final = ("off", "on", "off again")

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
_REST: Final = {"guest": "guest: driver, kernel, applications", "idle": "idle"}
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
        Recorder("breakdown", facts, args.json) as recorder,
        reported(progress, lambda: show(recorder)),
        testbed(settings) as bed,
    ):
        machines = Machines(bed)
        for number, configuration in rounds(configurations, effort, progress, lambda one: one.name):
            found = _divided(machines, configuration, effort)
            goodputs = {state: _goodput(machines, configuration, effort, state) for state in _TRACING}
            if number > 0:
                _record(recorder, configuration, found, goodputs, number)
    return 0


def _divided(machines: Machines, configuration: Configuration, effort: Effort) -> dict[str, tuple[float, float]]:
    """Row -> share of the time (0 to 1), average in ns (0: none)."""
    trace, use = traced(machines, configuration, "loaded", effort)
    division = divide(trace)
    rows = {
        name: (division.share(*kinds), division.average_ns(*kinds, per=per)) for name, (_, kinds, per) in _ROWS.items()
    }
    idle = min(idle_share(use), division.share("halted"))
    return rows | {"idle": (idle, 0.0), "guest": (_guest(division, idle), 0.0), "lost_records": (trace.lost, 0.0)}


def _guest(division: Division, idle: float) -> float:
    """The guest's applications run on while its processor is halted: what is then not idle is theirs."""
    return division.share("guest", "halted") - idle


def _goodput(machines: Machines, configuration: Configuration, effort: Effort, state: str) -> tuple[float, float]:
    """Goodput in Mb/s and idle share of the same load, with tracing in that state."""
    stack = machines.bed.stack
    if state == "on":
        switch_tracing(stack, effort.warm_up + effort.seconds + _SPARE_SECONDS)
    try:
        metrics = transfer(machines, configuration, "transmit", effort)
    finally:
        if state == "on":
            switch_tracing(stack, 0)
    return metrics["goodput_mbps"], metrics["idle_share"]


def _record(
    recorder: Recorder,
    configuration: Configuration,
    found: Mapping[str, tuple[float, float]],
    goodputs: Mapping[str, tuple[float, float]],
    run: int,
) -> None:
    name = configuration.name
    lost, _ = found["lost_records"]
    recorder.add(name, "lost_records", "records", lost, run)
    for row in WORK:
        share, average = found[row]
        recorder.add(name, "share", "1", share, run, work=row)
        if average:
            recorder.add(name, "average", "ns", average, run, work=row)
    for state, (goodput, idle) in goodputs.items():
        recorder.add(name, "goodput_mbps", "Mb/s", goodput, run, tracing=state, direction="transmit")
        recorder.add(name, "idle_share", "1", idle, run, tracing=state, direction="transmit")


def show(recorder: Recorder) -> None:
    """A table for each mode that has been measured, and what tracing costs in it."""
    for name, published in _PAPER.items():
        if not recorder.values(configuration=name, metric="share"):
            continue
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
        yield (text, spread(shares, scale=100.0), spread(averages, scale=0.001), *_published(figure))


def _published(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return NOTHING, NOTHING
    average = NOTHING if figure.average_us is None else f"{figure.average_us:g}"
    return f"{figure.share:.1%}".rstrip("%"), average


def _cost(recorder: Recorder, name: str) -> str:
    parts = []
    goodputs = []
    for state in _TRACING:
        goodput = median(recorder.values(configuration=name, metric="goodput_mbps", tracing=state))
        idle = median(recorder.values(configuration=name, metric="idle_share", tracing=state))
        goodputs.append(goodput)
        parts.append(f"{state} {goodput:.1f} Mb/s, {idle:.1%} idle")
    before, during, after = goodputs
    return f"tracing {'; '.join(parts)}: it costs {1 - 2 * during / (before + after):.0%} of the goodput"
