"""Section 3.3.2: what the settings of send combining do, which the paper leaves open."""

from __future__ import annotations

from typing import Final

from lab.bench.combining import OFF
from lab.bench.tables import percent, spread
from lab.reporting.blocks import Bars, Chart, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import drawn, heading, missing, slug

__all__ = ["combining"]

_SHOWN: Final = (("goodput_mbps", "Goodput", "Mb/s", 1.0), ("idle_share", "Idle time", "% of the CPU", 100.0))
_COUNTS: Final = ("world_switches_per_packet", "irqs_per_packet")
_HEADER: Final = ("setting", "Mb/s", "idle, %", "switches a packet", "IRQs a packet")


def combining(found: Collection) -> Section:
    """Threshold, decay and cap, one at a time."""
    section = Section("combining", "Settings of send combining", "section 3.3.2")
    results = found.of("combining")
    if not results:
        section.blocks.append(missing("combining"))
    for number, result in enumerate(results, 1):
        section.blocks += [*heading(result, results), _table(result)]
        section.blocks += drawn(result, *(_chart(result, number, *shown) for shown in _SHOWN))
    section.blocks.append(
        Prose(
            "The paper gives a cap of 3 packets and one host tick as the longest wait; neither the threshold nor the "
            f"decay of the switch rate is in its text. One setting changes at a time; `{OFF}` is the measure of all."
        )
    )
    return section


def _table(result: Result) -> Table:
    rows = []
    for name in result.distinct("configuration"):
        goodput, idle = (result.values(configuration=name, metric=m) for m in ("goodput_mbps", "idle_share"))
        counts = (spread(result.values(configuration=name, metric=metric), 2) for metric in _COUNTS)
        rows.append([name, spread(goodput), percent(idle), *counts])
    return Table("Guest to peer, mode optimised, HLT in the vmm", _HEADER, rows)


def _chart(result: Result, number: int, metric: str, title: str, unit: str, scale: float) -> Chart:
    names = result.distinct("configuration")
    found = [point(result.values(configuration=name, metric=metric), scale) for name in names]
    return Chart(
        slug("combining", number, title),
        f"{title} by setting of send combining",
        "One bar for each value of each setting, the other settings at their defaults.",
        Bars(names, [Series(title, found)], unit),
    )
