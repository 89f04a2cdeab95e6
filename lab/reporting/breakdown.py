"""Tables 1 and 2: whose time it is while the guest transmits, in version 2.0 and optimised."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lab.bench.breakdown import WORK
from lab.bench.papershares import TABLE_1, TABLE_2, Figure
from lab.bench.tables import NOTHING, percent, spread
from lab.readings import median
from lab.reporting.blocks import Bars, Block, Chart, Point, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import drawn, heading, missing, slug

__all__ = ["breakdown"]

_TABLES: Final[Mapping[str, tuple[str, Mapping[str, Figure]]]] = MappingProxyType(
    {"2.0": ("Table 1", TABLE_1), "optimised": ("Table 2", TABLE_2)}
)
_PERCENT: Final = 100.0
_US: Final = 1e-3
_HALF: Final = 0.5


def breakdown(found: Collection) -> Section:
    """A table and a chart for each mode, and what tracing has cost."""
    section = Section("breakdown", "Whose time it is", "sections 3.2 and 3.3, Tables 1 and 2")
    results = found.of("breakdown")
    if not results:
        section.blocks.append(missing("breakdown"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for name in result.distinct("configuration", metric="share"):
            section.blocks += [_table(result, name), *drawn(result, _chart(result, name, number)), *_cost(result, name)]
        section.blocks += _explained(result)
    return section


def _works(result: Result, name: str) -> list[str]:
    """What was measured, in the order of ``WORK``, and after that whatever else there is."""
    measured = [str(work) for work in result.distinct("work", configuration=name, metric="share")]
    return [work for work in WORK if work in measured] + [work for work in measured if work not in WORK]


def _shares(result: Result, name: str, work: str) -> list[float]:
    return result.values(configuration=name, metric="share", work=work)


def _published(name: str) -> tuple[str, Mapping[str, Figure]]:
    return _TABLES.get(name, ("", MappingProxyType({})))


def _table(result: Result, name: str) -> Table:
    title, published = _published(name)
    rows = []
    for work in _works(result, name):
        figure = published.get(work)
        averages = result.values(configuration=name, metric="average", work=work)
        rows.append(
            [
                WORK.get(work, work).strip(),
                NOTHING if figure is None else f"{figure.share * _PERCENT:.1f}",
                percent(_shares(result, name, work)),
                NOTHING if figure is None or figure.average_us is None else f"{figure.average_us:g}",
                spread(averages, scale=_US),
            ]
        )
    caption = f"Shares of the sender's CPU time, mode {name}" + (f", beside the paper's {title}" if title else "")
    return Table(caption, ("work", "%", "%", "us each", "us each"), rows, frozenset({1, 3}))


def _chart(result: Result, name: str, number: int) -> Chart:
    works = _works(result, name)
    _, published = _published(name)
    ours = [point(_shares(result, name, work), _PERCENT) for work in works]
    return Chart(
        slug("breakdown", number, name),
        f"Shares of the CPU's time while sending, mode {name}",
        "The rows of the table above, ours beside the paper's.",
        Bars(
            [WORK.get(work, work).strip() for work in works],
            [
                Series(name, ours),
                Series(f"{name}, paper", [_papers(published.get(work)) for work in works], paper=True),
            ],
            "% of the time",
        ),
    )


def _papers(figure: Figure | None) -> Point | None:
    return None if figure is None else Point(*[figure.share * _PERCENT] * 3)


def _cost(result: Result, name: str) -> list[Block]:
    parts = []
    for state in result.distinct("tracing", configuration=name, metric="goodput_mbps"):
        goodput = result.values(configuration=name, metric="goodput_mbps", tracing=state)
        idle = result.values(configuration=name, metric="idle_share", tracing=state)
        parts.append(f"{state}: {spread(goodput)} Mb/s, {percent(idle)} % idle")
    lost = sum(result.values(configuration=name, metric="lost_records"))
    text = f"What tracing itself costs in mode {name}: tracing {'; '.join(parts)}." if parts else ""
    return [Prose(f"{text} {lost:.0f} records were lost.")] if text else []


def _explained(result: Result) -> list[Block]:
    """What the paper concludes from its tables, checked on ours."""
    text = (
        "The paper's rows of VMM time are multiplied by the VMM's share of the total (77.3 % and 71.5 %), so that all "
        "are shares of the total; rows that it doesn't list are missing from both. It concludes that accesses which "
        "switch worlds, and the work for them in VMApp, cost most in 2.0, and almost nothing when optimised."
    )
    before, after = (_shares(result, name, "switching") for name in ("2.0", "optimised"))
    if before and after:
        first, second = median(before), median(after)
        agrees = second <= first * _HALF
        text += (
            f" Here, they take {first:.1%} in 2.0 and {second:.1%} optimised: "
            f"{'at most' if agrees else 'NOT at most'} half of it."
        )
    return [Prose(text)]
