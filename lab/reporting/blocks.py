"""What a section of the report is made of: tables, paragraphs, charts. Plain data, neither HTML nor drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from lab.readings import median

__all__ = [
    "Bars",
    "Block",
    "Chart",
    "Lines",
    "Point",
    "Prose",
    "Section",
    "Segments",
    "Series",
    "Span",
    "Table",
    "Timeline",
    "point",
]


class Point(NamedTuple):
    """A median and the extremes that it was found among."""

    middle: float
    low: float
    high: float


def point(values: Sequence[float], scale: float = 1.0) -> Point | None:
    """The point that stands for repeated measurements; None if there is none."""
    if not values:
        return None
    return Point(median(values) * scale, min(values) * scale, max(values) * scale)


@dataclass(frozen=True, slots=True)
class Prose:
    """One paragraph of plain text. ``warning``: something about the data that a reader must know."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """``paper``: numbers of the columns whose values are the paper's. Rows may be shorter than the header."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    paper: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Series:
    """Points over categories or over x; None where nothing was measured. ``paper``: the paper's own."""

    label: str
    points: Sequence[Point | None]
    paper: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars, one group a category; ``limit``: a line across, such as the wire's rate, and its label."""

    categories: Sequence[str]
    series: Sequence[Series]
    unit: str
    limit: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over ``x``, on a scale of powers of two."""

    x: Sequence[float]
    series: Sequence[Series]
    x_label: str
    unit: str


@dataclass(frozen=True, slots=True)
class Segments:
    """Bars made of segments laid end to end: (row, [(segment, length), ...])."""

    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]
    unit: str


class Span(NamedTuple):
    """What one lane did from ``begin`` to ``end`` (us). ``depth``: how many spans of the lane enclose this one."""

    lane: str
    label: str
    begin: float
    end: float
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Lanes from top to bottom and what happened in each."""

    lanes: Sequence[str]
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing: ``name`` is its file name's end, ``text`` says what it shows to those who can't see it."""

    name: str
    title: str
    text: str
    drawing: Bars | Lines | Segments | Timeline


Block: TypeAlias = Prose | Table | Chart


@dataclass(slots=True)
class Section:
    """``anchor``: for links within the page. ``source``: table, figure or section of the paper."""

    anchor: str
    title: str
    source: str
    blocks: list[Block] = field(default_factory=list)
