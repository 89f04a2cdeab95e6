"""Table 3, idle time, and Figure 6, throughput against operation size: what the processor has left, and its reach."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from lab.bench import paper
from lab.bench.tables import NOTHING, percent, spread
from lab.readings import median
from lab.reporting.blocks import Bars, Block, Chart, Lines, Point, Prose, Section, Series, Table, point
from lab.reporting.results import LARGEST, Collection, Result
from lab.reporting.sections import STOCK, drawn, heading, is_stock, missing, of_guest, ratio, slug

__all__ = ["idle", "sweep"]

_AS_MEASURED: Final = ("vmm", NOTHING)  # HLT where the paper's measurement had it; native has none of ours
_PERCENT: Final = 100.0
_PAPERS_LINK: Final = "100mbit"


def idle(found: Collection) -> Section:
    """Table 3."""
    section = Section("idle", "Idle time", "section 3.5, Table 3")
    results = found.of("idle")
    if not results:
        section.blocks.append(missing("idle"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for link in result.distinct("link"):
            section.blocks += [*_idle_table(result, link), *drawn(result, _idle_chart(result, link, number))]
            section.blocks.append(_idle_prose(result, link))
    return section


def _idle_table(result: Result, link: str) -> list[Block]:
    rows = []
    for name in _known(result, link):
        for hlt in result.distinct("hlt", configuration=name, link=link):
            keys = {"configuration": name, "hlt": hlt, "link": link}
            comparable = hlt in _AS_MEASURED and not is_stock(result)
            quoted = f"{paper.IDLE_SHARES[name] * _PERCENT:.1f}" if comparable else NOTHING
            shares = (percent(result.values(metric=metric, **keys)) for metric in ("idle_share", "guest_idle_share"))
            rows.append([name, hlt, quoted, *shares, spread(result.values(metric="goodput_mbps", **keys))])
    header = ("configuration", "HLT in the", "idle, %", "idle, %", "the guest's own, %", "Mb/s")
    caption = f"Idle share of the sender's CPU, {paper.OPERATION_BYTES}-byte operations, link {link}{of_guest(result)}"
    return [Table(caption, header, rows, frozenset({2}))]


def _known(result: Result, link: str) -> list[str]:
    """Table 3's rows that were measured, in its order."""
    measured = result.distinct("configuration", link=link)
    return [name for name in paper.IDLE_SHARES if name in measured]


def _shares(result: Result, link: str, name: str) -> list[float]:
    keys: dict[str, Any] = {"configuration": name, "link": link, "metric": "idle_share"}
    return [value for hlt in _AS_MEASURED for value in result.values(hlt=hlt, **keys)]


def _idle_chart(result: Result, link: str, number: int) -> Chart:
    names = _known(result, link)
    bars = [Series("idle", [point(_shares(result, link, name), _PERCENT) for name in names])]
    text = "Share of the sender's CPU that is idle"
    if not is_stock(result):
        quoted = [paper.IDLE_SHARES[name] * _PERCENT for name in names]
        bars.append(Series("paper", [Point(value, value, value) for value in quoted], paper=True))
        text += ", HLT in the vmm; beside it the paper's Table 3"
    title = f"Idle time while sending, link {link}{of_guest(result)}"
    return Chart(slug("idle", number, link), title, f"{text}.", Bars(names, bars, "% of the CPU"))


def _idle_prose(result: Result, link: str) -> Prose:
    """The paper's order, checked step by step: a step within the spread is none."""
    found = {name: values for name in _known(result, link) if (values := _shares(result, link, name))}
    text = ["Table 3 gives the time that is left while the wire is full, except with 2.0, which does not fill it."]
    wrong = [f"{a} to {b}" for a, b in pairwise(found) if median(found[a]) < median(found[b])]
    level = [f"{a} to {b}" for a, b in pairwise(found) if not wrong and min(found[a]) <= max(found[b])]
    text.append(f"Here, the order is {'NOT the paper' if wrong else 'the paper'}'s" + (": " if wrong or level else "."))
    if wrong:
        text[-1] += f"it rises from {', '.join(wrong)}."
    elif level:
        text[-1] += f"but no step is larger than the spread from {', '.join(level)}."
    if "2.0" in found:
        bound = median(found["2.0"]) < paper.CPU_BOUND_IDLE
        text.append(f"2.0 is {'' if bound else 'not '}CPU-bound at {link}.")
        if not bound:
            text.append("`worldswitch bench idle --link cpu-bound` looks for a rate at which it is.")
    if link != _PAPERS_LINK:
        text.append(f"The paper's wire was {_PAPERS_LINK}, so only the order can be compared, not the shares.")
    if is_stock(result):
        text.append(STOCK)
    text.append("Where Mb/s differ, so does the work that was done: compare idle time only at equal throughput.")
    return Prose(" ".join(text))


def sweep(found: Collection) -> Section:
    """Figure 6."""
    section = Section("sweep", "Throughput against operation size", "section 3.4, Figure 6")
    results = found.of("sweep")
    if not results:
        section.blocks.append(missing("sweep"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for cpu in result.distinct("cpu"):
            section.blocks += [_sweep_table(result, cpu), *drawn(result, _sweep_chart(result, cpu, number))]
        section.blocks += _sweep_prose(result)
    return section


def _sizes(result: Result) -> list[int]:
    return sorted(size for size in result.distinct("operation_bytes") if type(size) is int and 0 < size <= LARGEST)


def _goodput(result: Result, name: str, cpu: str, size: int) -> list[float]:
    return result.values(configuration=name, cpu=cpu, operation_bytes=size, metric="goodput_mbps")


def _sweep_table(result: Result, cpu: str) -> Table:
    names = result.distinct("configuration")
    rows = [[str(size), *(spread(_goodput(result, name, cpu, size)) for name in names)] for size in _sizes(result)]
    return Table(f"Goodput in Mb/s, {cpu} CPU", ("bytes an operation", *names), rows)


def _sweep_chart(result: Result, cpu: str, number: int) -> Chart:
    sizes = _sizes(result)
    names = result.distinct("configuration")
    lines = [Series(name, [point(_goodput(result, name, cpu, size)) for size in sizes]) for name in names]
    if cpu == "full" and paper.OPERATION_BYTES in sizes:
        quoted = float(paper.THROUGHPUT_MBPS["2.0"])
        there = [Point(quoted, quoted, quoted) if size == paper.OPERATION_BYTES else None for size in sizes]
        lines.append(Series("2.0, paper", there, paper=True))
    return Chart(
        slug("sweep", number, cpu),
        f"Throughput against operation size, {cpu} CPU",
        "One line a configuration, over bytes for each send(). Of the paper's figure, one value is in its text.",
        Lines(sizes, lines, "bytes an operation", "Mb/s"),
    )


def _sweep_prose(result: Result) -> list[Block]:
    blocks: list[Block] = [Prose("The paper found: " + "; ".join(paper.SWEEP_FINDINGS) + ".")]
    sizes = [size for size in _sizes(result) if _goodput(result, "2.0", "half", size)]
    middle = [size for size in sizes if size == paper.OPERATION_BYTES] or sizes[len(sizes) // 2 :]
    if middle:
        size = middle[0]
        slow, quick = (_goodput(result, name, "half", size) for name in ("2.0", "optimised"))
        full = _goodput(result, "2.0", "full", size)
        blocks.append(
            Prose(
                f"Here, at {size} bytes with half the CPU, optimised reaches {ratio(quick, slow)} times 2.0's goodput "
                f"(paper: twice), and {ratio(quick, full)} of what 2.0 reaches with the full CPU (paper: equal). Half "
                "of a CPU's time is not half its clock rate: caches and wake-ups stay as quick as they were."
            )
        )
    return blocks
