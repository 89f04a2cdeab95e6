"""One packet out and one packet in, drawn from a timeline file (``worldswitch trace``), or from median segments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

from lab.reporting.blocks import Block, Chart, Prose, Section, Span, Timeline
from lab.reporting.latency import median_timeline
from lab.reporting.results import LARGEST, TRACE_SUFFIX, Collection, is_name, read_json
from lab.reporting.sections import slug
from machine import trace as events
from machine.launch import ROLES

__all__ = ["timeline"]

_LARGEST_BYTES: Final = 64 << 20
_MOST_DRAWN: Final = 3  # traces
_MOST_SPANS: Final = 120
_LONGEST_US: Final = 20_000.0  # a packet that takes longer met something else on its way
_WRITE: Final = events.EVENTS[events.TAP_WRITE].name
_READ: Final = events.EVENTS[events.TAP_READ].name
_HANDLER: Final = events.EVENTS[events.INTERRUPT].name
_OUT: Final = "OUT "
_ACCESS: Final = re.compile(r"(emulate )?(?:IN|OUT) (PIC|.*)")
_EMPTY: Final = {"bytes": 0}  # a read() that found no frame


def timeline(found: Collection) -> Section:
    """Both drawings for each trace; without a trace, what the latency bench allows."""
    section = Section("timeline", "One packet out, one packet in", "Figure 4")
    for number, path in enumerate(found.traces, 1):
        section.blocks += _of_file(found, path, number)
    if not found.traces:
        chart = median_timeline(found)
        section.blocks += [chart] if chart is not None else []
        section.blocks.append(
            Prose(
                f"No timeline was recorded. `worldswitch trace packets{TRACE_SUFFIX}`, while packets flow through a "
                "running stack, makes one; put it into this directory.",
                warning=True,
            )
        )
    return section


def _of_file(found: Collection, path: Path, number: int) -> list[Block]:
    try:
        spans = _load(path)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        if (path.name, reason) not in found.refused:
            found.refused.append((path.name, reason))
        return [Prose(f"Left out: `{path.name}`: {reason}.", warning=True)]
    if number > _MOST_DRAWN:
        return [Prose(f"`{path.name}`: not drawn, as there are {_MOST_DRAWN} timelines already.")]
    blocks: list[Block] = [
        Prose(f"`{path.name}`: of all packets in the trace, the one of median duration each way. It opens in Perfetto.")
    ]
    for way, windows in (("out", _transmissions(spans)), ("in", _receptions(spans))):
        window = _typical(windows)
        if window is None:
            blocks.append(Prose(f"The trace holds no packet {way} from end to end.", warning=True))
        else:
            blocks.append(_chart(spans, window, way, number))
    return blocks


def _load(path: Path) -> list[Span]:
    """The slices of the three processes, in order of begin, enclosing ones first; ValueError if it is no trace."""
    record, _ = read_json(path, _LARGEST_BYTES)
    every = record.get("traceEvents") if isinstance(record, dict) else None
    if not isinstance(every, list):
        raise ValueError("not a Chrome trace")
    roles = _roles(every)
    slices = [span for event in every if (span := _slice(event, roles)) is not None]
    return list(_nested(sorted(slices, key=lambda span: (span.begin, -span.end))))


def _roles(every: Iterable[Any]) -> dict[Any, str]:
    """Process id -> role, from the metadata that names processes."""
    found = {}
    for event in every:
        if isinstance(event, dict) and event.get("name") == "process_name" and isinstance(event.get("args"), dict):
            name = event["args"].get("name")
            if name in ROLES and isinstance(event.get("pid"), int):
                found[event["pid"]] = name
    return found


def _slice(event: Any, roles: dict[Any, str]) -> Span | None:
    if not isinstance(event, dict) or event.get("ph") != "X" or not isinstance(event.get("pid"), int):
        return None
    role, name, begin, lasting = roles.get(event["pid"]), event.get("name"), event.get("ts"), event.get("dur")
    if role is None or not is_name(name):
        return None
    if not _is_time(begin) or not _is_time(lasting) or lasting < 0:
        return None
    if name == _READ and event.get("args") == _EMPTY:
        return None
    return Span(role, name, begin, begin + lasting)


def _is_time(number: Any) -> TypeGuard[float]:
    return isinstance(number, int | float) and -LARGEST <= number <= LARGEST


def _nested(spans: Iterable[Span]) -> Iterator[Span]:
    """The same with their depths: how many of their lane's spans are still open when they begin."""
    open_until: dict[str, list[float]] = {}
    for span in spans:
        ends = open_until.setdefault(span.lane, [])
        while ends and ends[-1] <= span.begin:
            ends.pop()
        yield span._replace(depth=len(ends))
        ends.append(span.end)


def _transmissions(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """From an OUT of the guest around a write() to the end of the interrupt handler that follows it."""
    found = []
    handlers = [span for span in spans if span.label == _HANDLER]
    outs = [span for span in spans if span.lane == "guest" and span.label.startswith(_OUT)]
    at_out = at_handler = 0
    for write in (span for span in spans if span.label == _WRITE):
        while at_out < len(outs) and outs[at_out].end < write.end:
            at_out += 1
        while at_handler < len(handlers) and handlers[at_handler].begin < write.end:
            at_handler += 1
        if at_out < len(outs) and outs[at_out].begin <= write.begin and at_handler < len(handlers):
            found.append((outs[at_out].begin, handlers[at_handler].end))
    return found


def _receptions(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """From a read() that brought a frame to the end of the interrupt handler that follows it."""
    found = []
    handlers = [span for span in spans if span.label == _HANDLER]
    at = 0
    for read in (span for span in spans if span.label == _READ):
        while at < len(handlers) and handlers[at].begin < read.end:
            at += 1
        if at < len(handlers):
            found.append((read.begin, handlers[at].end))
    return found


def _typical(windows: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The window of median length among those that are short enough to be about one packet."""
    short = sorted((w for w in windows if w[1] - w[0] < _LONGEST_US), key=lambda w: w[1] - w[0])
    return short[len(short) // 2] if short else None


def _chart(spans: Sequence[Span], window: tuple[float, float], way: str, number: int) -> Chart:
    begin, end = window
    inside = [span for span in spans if span.begin < end and span.end > begin][:_MOST_SPANS]
    drawn = [
        s._replace(label=_kind(s.label), begin=max(s.begin, begin) - begin, end=min(s.end, end) - begin) for s in inside
    ]
    which = "sent" if way == "out" else "received"
    return Chart(
        slug("timeline", number, way),
        f"One packet {which}, until the guest's interrupt handler has ended",
        "Lanes: guest, vmm, vmapp; what is drawn within a bar happens within it. Time in us from the packet's begin.",
        Timeline(ROLES, drawn),
    )


def _kind(label: str) -> str:
    """What the drawing calls a span: all accesses to one port alike, or it would need more colours than there are."""
    match = _ACCESS.match(label)
    return label if match is None else f"{match[1] or ''}IN/OUT {match[2]}"
