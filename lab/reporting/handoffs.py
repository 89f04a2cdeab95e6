"""What handing control over costs: the ground that every other figure stands on. Not an experiment of the paper."""

from __future__ import annotations

from typing import Final

from lab.bench.tables import NOTHING, spread
from lab.readings import LAYERS
from lab.reporting.blocks import Bars, Block, Chart, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import drawn, heading, missing, slug

__all__ = ["handoff"]

_US: Final = 1e-3


def handoff(found: Collection) -> Section:
    """Round trips for each doorbell, on one CPU and across two."""
    section = Section("handoff", "Handoffs: what a trap costs", "not in the paper")
    results = found.of("handoff")
    if not results:
        section.blocks.append(missing("handoff"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for placement in result.distinct("placement"):
            section.blocks += _placement(result, placement, number)
    return section


def _placement(result: Result, placement: str, number: int) -> list[Block]:
    bells = result.distinct("doorbell", placement=placement)

    def values(layer: str, bell: str, metric: str) -> list[float]:
        return result.values(configuration=layer, doorbell=bell, placement=placement, metric=metric)

    rows = [
        [
            bell,
            label,
            spread(values(layer, bell, "round_trip_p50"), scale=_US),
            spread(values(layer, bell, "round_trip_p99"), scale=_US),
            spread(values(layer, bell, "ratio_to_raw"), 2) or NOTHING,
        ]
        for bell in bells
        for layer, label in LAYERS.items()
    ]
    bars = [
        Series(label, [point(values(layer, bell, "round_trip_p50"), _US) for bell in bells])
        for layer, label in LAYERS.items()
    ]
    return [
        Table(f"Round trips, {placement}", ("doorbell", "between", "median, us", "p99, us", "x bare"), rows),
        *drawn(
            result,
            Chart(
                slug("handoff", number, placement),
                f"Round trips, {placement}",
                "Median round trip for each doorbell: bare processes, a trap in the vmm, a trap with a world switch.",
                Bars(bells, bars, "us"),
            ),
        ),
        Prose(
            "A trap is a request in shared memory and a doorbell; one that needs the host world adds the switch to "
            "vmapp. In the paper, a trap was a change of privilege and a switch a change of the whole processor state."
        ),
    ]
