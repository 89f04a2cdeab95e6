"""Figure 5: where the one OUT that transmits spends its time, and a drawing of it to scale."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lab.bench.tables import NOTHING
from lab.bench.tracedload import LOADS
from lab.readings import median, percentile, tail_label
from lab.reporting.blocks import Block, Chart, Prose, Section, Segments, Span, Table, Timeline
from lab.reporting.results import Collection, Result
from lab.reporting.sections import drawn, heading, missing, slug
from lab.tracing.segments import ON_THE_WIRE, SEGMENTS, TOTAL

__all__ = ["latency", "median_timeline"]

_US: Final = 1e-3
_TAIL: Final = 99
_ROWS: Final = SEGMENTS | {ON_THE_WIRE: "from the trap until the frame is on the wire", TOTAL: "the whole OUT"}
_WHOSE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "wake": "vmapp",
        "trap": "guest",
        "dispatch": "vmm",
        "switch_there": "vmm",
        "emulate": "vmapp",
        "write": "vmapp",
        "finish": "vmapp",
        "switch_back": "vmapp",
        "interrupt": "vmm",
        "resume": "guest",
    }
)
_SWITCHES: Final = ("switch_there", "switch_back")


def latency(found: Collection) -> Section:
    """Segments of the transmitting OUT, by mode and load."""
    section = Section("latency", "The OUT that transmits", "section 3.2, Figure 5")
    results = found.of("latency")
    if not results:
        section.blocks.append(missing("latency"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for load in result.distinct("load"):
            section.blocks += [_table(result, load), *drawn(result, _chart(result, load, number))]
            section.blocks += _explained(result, load)
    section.blocks.append(
        Prose(
            "Figure 5 of the paper is a picture: its text gives no times, so none of the paper's stand here. Of its "
            "Table 1, the nearest figure is 13.8 us for a transmission via VMNet, measured under load on its machine."
        )
    )
    return section


def _names(result: Result, load: str) -> list[str]:
    return result.distinct("configuration", load=load, metric=TOTAL)


def _table(result: Result, load: str) -> Table:
    names = _names(result, load)
    rows = []
    for metric, meaning in _ROWS.items():
        cells = []
        for name in names:
            values = result.values(configuration=name, metric=metric, load=load)
            cells += (
                [f"{median(values) * _US:.1f}", f"{percentile(values, _TAIL) * _US:.1f}"] if values else [NOTHING] * 2
            )
        rows.append([meaning, *cells])
    header = [f"{name}, {which}" for name in names for which in ("p50", _tail(result, name, load))]
    return Table(f"Times in us, {LOADS.get(load, load)}", ("segment", *header), rows)


def _tail(result: Result, name: str, load: str) -> str:
    return tail_label(len(result.values(configuration=name, metric=TOTAL, load=load)), _TAIL)


def _medians(result: Result, name: str, load: str) -> list[tuple[str, float]]:
    """Segment -> median in us, in order of time; those without a sample are left out."""
    found = {metric: result.values(configuration=name, metric=metric, load=load) for metric in SEGMENTS}
    return [(metric, median(values) * _US) for metric, values in found.items() if values]


def _chart(result: Result, load: str, number: int) -> Chart:
    rows = [(name, _medians(result, name, load)) for name in _names(result, load)]
    return Chart(
        slug("latency", number, load),
        f"Segments of the transmitting OUT, medians, {LOADS.get(load, load)}",
        "One bar a mode, from the guest's instruction on the left to its next one on the right.",
        Segments(rows, "us"),
    )


def _explained(result: Result, load: str) -> list[Block]:
    names = _names(result, load)
    sentences = []
    for name in names:
        parts = dict(_medians(result, name, load))
        whole = sum(parts.values())
        if whole and parts:
            longest = max(parts, key=lambda metric: parts[metric])
            switching = sum(parts.get(metric, 0.0) for metric in _SWITCHES) / whole
            sentences.append(
                f"{name}: the longest segment is {longest} ({parts[longest] / whole:.0%} of the sum of medians); the "
                f"two halves of the world switch take {switching:.0%}."
            )
    lost = sum(result.values(metric="lost_records", load=load))
    if lost:
        sentences.append(f"{lost:.0f} trace records were lost: OUTs are missing, at random.")
    sentences.append("Times contain what tracing itself costs (see the breakdown).")
    return [Prose(" ".join(sentences))]


def median_timeline(found: Collection) -> Chart | None:
    """One transmission drawn from the medians of version 2.0's lone packets; None if they were not measured."""
    for result in reversed(found.of("latency")):
        parts = _medians(result, "2.0", "lone")
        if not parts:
            continue
        spans, at = [], 0.0
        for metric, length in parts:
            spans.append(Span(_WHOSE[metric], metric, at, at + length))
            at += length
        return Chart(
            "timeline-medians",
            "One transmission in mode 2.0, made of the medians of its segments",
            "Lanes: guest, vmm, vmapp; time runs to the right.",
            Timeline(("guest", "vmm", "vmapp"), spans),
        )
    return None
