"""What a packet costs in events: the counts of sections 3.2 and 4, which hardly depend on the machine."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from lab.bench import paper
from lab.bench.counts import METRICS
from lab.bench.tables import NOTHING, spread
from lab.readings import median
from lab.reporting.blocks import Bars, Block, Chart, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import STOCK, drawn, heading, is_stock, missing, slug

__all__ = ["counts"]

_PAPERS: Final = MappingProxyType(
    {
        "port_accesses_per_packet": paper.PORT_ACCESSES_PER_PACKET_SENT,
        "irqs_per_packet": paper.IRQS_PER_PACKET_SENT,
        "pic_accesses_per_irq": paper.PIC_ACCESSES_PER_IRQ,
    }
)
_PAPERS_DRIVER: Final = "linux22"


def counts(found: Collection) -> Section:
    """Port accesses, traps, switches, interrupts for each packet, by driver, mode and load."""
    section = Section("counts", "What a packet costs", "sections 3.2 and 4")
    results = found.of("counts")
    if not results:
        section.blocks.append(missing("counts"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for driver in result.distinct("driver"):
            section.blocks += [_table(result, driver), *drawn(result, _chart(result, driver, number))]
        section.blocks += [Prose(STOCK)] if is_stock(result) else _explained(result)
    return section


def _table(result: Result, driver: str) -> Table:
    rows = []
    for load in result.distinct("load", driver=driver):
        for direction in result.distinct("direction", driver=driver, load=load):
            for name in result.distinct("configuration", driver=driver, load=load, direction=direction):
                keys = {"configuration": name, "driver": driver, "load": load, "direction": direction}
                rows.append([name, load, direction, *(spread(result.values(metric=m, **keys), 2) for m in METRICS)])
    if driver == _PAPERS_DRIVER:
        rows.append(["paper", "sent", "", *(str(_PAPERS.get(metric, NOTHING)) for metric in METRICS)])
    caption = f"For each packet through the virtual NIC, driver {driver}"
    return Table(caption, ("mode", "load", "direction", *METRICS.values()), rows)


def _chart(result: Result, driver: str, number: int) -> Chart:
    names = result.distinct("configuration", driver=driver)
    bars = []
    for load in result.distinct("load", driver=driver):
        keys = {"driver": driver, "load": load, "direction": "transmit", "metric": "world_switches_per_packet"}
        bars.append(Series(load, [point(result.values(configuration=name, **keys)) for name in names]))
    return Chart(
        slug("counts", number, driver),
        f"World switches for each packet, sending, driver {driver}",
        "Each optimisation removes switches: lone packets show what it does to one, bulk what it does to many.",
        Bars(names, bars, "switches a packet"),
    )


def _explained(result: Result) -> list[Block]:
    keys = {"driver": _PAPERS_DRIVER, "load": "lone", "direction": "transmit", "configuration": "2.0"}
    found = {metric: result.values(metric=metric, **keys) for metric in _PAPERS}
    if not all(found.values()):
        return []
    ours = {metric: median(values) for metric, values in found.items()}
    same = all(abs(ours[metric] - quoted) < 0.5 for metric, quoted in _PAPERS.items())
    text = ", ".join(f"{ours[metric]:.2f} {METRICS[metric]} (paper: {quoted})" for metric, quoted in _PAPERS.items())
    verdict = "the paper's counts, to the nearest whole number" if same else "NOT the paper's counts"
    return [
        Prose(
            f"A packet sent alone in mode 2.0 takes {text}: {verdict}. In bulk, one interrupt serves several packets "
            "and acknowledgements share it, so counts fall."
        )
    ]
