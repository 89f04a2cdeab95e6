"""Draws charts with matplotlib, which is asked for only here: an SVG and a PNG file each, and an SVG for the page.

matplotlib is the extra ``report`` (``setup.cfg``). Its figures are used without pyplot, so nothing is global.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.extras import remedy
from lab.reporting.blocks import Bars, Chart, Lines, Point, Segments, Series, Timeline
from machine.errors import SetupError

__all__ = ["Drawing", "draw"]

_INK: Final = "#0a0b0c"  # near black in the files; the page's own text colour within the page
_COLOURS: Final = (
    *("#7a828a", "#c9504a", "#d9922b", "#3a9d6e", "#3b82c4", "#9b6bc4", "#8c6d4f", "#4aa8a8"),
    *("#c96fa3", "#a3a83a", "#5a6ad0", "#e0b98a", "#2f6b4f", "#b0b7be"),
)
_STYLE: Final = {
    "svg.fonttype": "none",  # text stays text: small, selectable, read aloud
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # names come from files: a $ in one is a $
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK)
_MOST_PARTS: Final = 1000
_NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_WIDTH: Final = 8.2  # inches
_PNG_DPI: Final = 150
_HATCH: Final = "///"
_MOST_UPRIGHT: Final = 7  # groups of bars
_LONGEST_UPRIGHT: Final = 22  # letters in a group's name
_HEADROOM: Final = 1.05
_LANE: Final = 0.8  # height of a lane's outermost spans; each that is enclosed is lower by a step
_STEP: Final = 0.2
_THINNEST: Final = 0.15

_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_STYLE_ELEMENT: Final = re.compile(r"<style.*?</style>", re.DOTALL)
_ROOT: Final = re.compile(r"<svg [^>]*?viewBox=\"0 0 ([0-9.]+) ([0-9.]+)\"[^>]*>")
_TITLE: Final = "title-above"
_GROUND: Final = "ground"
_LEFT_OUT: Final = re.compile(rf"<g id=\"(?:{_TITLE}|{_GROUND}|{_GROUND}-of-axes)\">.*?</g>", re.DOTALL)
_HEIGHT_POINTS: Final = 72.0  # points to an inch, the unit of matplotlib's SVG
_MARGIN_POINTS: Final = 6.0
_FONT: Final = re.compile(r"font-family: [^;\"]*")
_NAMED: Final = re.compile(r"(\bid=\"|href=\"#|url\(#)")


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart, drawn: two files' contents, and an <svg> element for an HTML page."""

    svg: bytes
    png: bytes
    inline: str


def draw(chart: Chart) -> Drawing:
    """The chart on paper. SetupError, with the remedy, if matplotlib is not there."""
    matplotlib, figure_class = _matplotlib()
    _check_size(chart)
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": chart.name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that no font here has: nothing a user could do about
        figure = figure_class(figsize=(_WIDTH, _height(chart)), layout="constrained")
        axes = figure.add_subplot()
        title = axes.set_title(chart.title, loc="left", fontsize=11)
        for part, name in ((title, _TITLE), (figure.patch, _GROUND), (axes.patch, f"{_GROUND}-of-axes")):
            part.set_gid(name)
        _DRAW[type(chart.drawing)](axes, chart.drawing)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=_PNG_DPI)
        figure.set_layout_engine("none")  # it stays as it is now: finding the layout is half of the work
        figure.savefig(svg, format="svg", metadata=_NO_METADATA)
        above = _HEIGHT_POINTS * figure.get_figheight() * (1 - axes.get_position().y1)  # room for the title
    return Drawing(svg.getvalue(), png.getvalue(), _inline(chart, svg.getvalue().decode(), above))


def _check_size(chart: Chart) -> None:
    """ValueError for a drawing that nobody could read, and that would take minutes and gigabytes."""
    drawing = chart.drawing
    if isinstance(drawing, Bars | Lines):
        parts = sum(len(series.points) for series in drawing.series)
    elif isinstance(drawing, Segments):
        parts = sum(len(segments) for _, segments in drawing.rows)
    else:
        parts = len(drawing.spans)
    if parts > _MOST_PARTS:
        raise ValueError(f"{parts} parts are more than {_MOST_PARTS}, which can be told apart")


def _matplotlib() -> tuple[Any, Any]:
    try:
        return importlib.import_module("matplotlib"), importlib.import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as error:
        raise SetupError(f"a report needs matplotlib (no module {error.name!r}): {remedy('report')}") from None


def _inline(chart: Chart, svg: str, above: float) -> str:
    """The <svg> element alone: no address of anything outside, ids that no other chart has, the page's ink.

    The page says the title in the caption and has a ground of its own; ``above``: points that the title took.
    """
    text = _STYLE_ELEMENT.sub("", _PROLOGUE.sub("", svg))
    text = _LEFT_OUT.sub("", text)
    text = _ROOT.sub(lambda root: _root(root, max(0.0, above - _MARGIN_POINTS)), text, count=1)
    text = _FONT.sub("font-family: inherit", text)
    text = _NAMED.sub(rf"\g<1>{chart.name}-", text)
    return text.replace(_INK, "currentColor").strip()


def _root(root: re.Match[str], above: float) -> str:
    width, height = float(root[1]), float(root[2])
    return f'<svg viewBox="0 {above:g} {width:g} {height - above:g}" aria-hidden="true">'


def _height(chart: Chart) -> float:
    drawing = chart.drawing
    if isinstance(drawing, Segments):
        return 2.4 + 0.5 * len(drawing.rows)
    if isinstance(drawing, Bars) and _lies(drawing):
        return 1.6 + 0.36 * len(drawing.categories)
    if isinstance(drawing, Timeline):
        return 2.2 + 0.8 * len(drawing.lanes)
    return 3.6


def _colour(position: int) -> str:
    return _COLOURS[position % len(_COLOURS)]


def _error(points: Sequence[Point]) -> list[list[float]]:
    return [[max(0.0, p.middle - p.low) for p in points], [max(0.0, p.high - p.middle) for p in points]]


def _lies(drawing: Bars) -> bool:
    return len(drawing.categories) > _MOST_UPRIGHT or any(len(name) > _LONGEST_UPRIGHT for name in drawing.categories)


def _bars(axes: Any, drawing: Bars) -> None:
    """Upright where there are few groups; where there are many, lying, so that their names stay readable."""
    lying = _lies(drawing)
    width = 0.8 / len(drawing.series)
    for at, series in enumerate(drawing.series):
        found = [(number, p) for number, p in enumerate(series.points) if p is not None]
        places = [number - 0.4 + width * (at + 0.5) for number, _ in found]
        points = [p for _, p in found]
        look = _paper_bar() if series.paper else {"color": _colour(at)}
        draw_bars = axes.barh if lying else axes.bar
        draw_bars(places, [p.middle for p in points], 0.9 * width, label=series.label, **look)
        if any(p.low != p.high for p in points):
            _whiskers(axes, places, points, lying)
    _scales(axes, drawing, lying)
    _legend(axes)


def _whiskers(axes: Any, places: Sequence[float], points: Sequence[Point], lying: bool) -> None:
    ends = [p.middle for p in points]
    if lying:
        axes.errorbar(ends, places, xerr=_error(points), fmt="none", ecolor=_INK, capsize=2)
    else:
        axes.errorbar(places, ends, yerr=_error(points), fmt="none", ecolor=_INK, capsize=2)


def _scales(axes: Any, drawing: Bars, lying: bool) -> None:
    groups = range(len(drawing.categories))
    limits = (-0.5, len(groups) - 0.5)
    highest = max((p.high for series in drawing.series for p in series.points if p is not None), default=0.0)
    top = max(highest, drawing.limit[0] if drawing.limit else 0.0) * _HEADROOM or 1.0
    if lying:
        axes.set(yticks=groups, yticklabels=drawing.categories, ylim=limits[::-1], xlabel=drawing.unit, xlim=(0, top))
    else:
        axes.set(xticks=groups, xticklabels=drawing.categories, xlim=limits, ylabel=drawing.unit, ylim=(0, top))
    axes.grid(visible=False, axis="y" if lying else "x")
    if drawing.limit is not None:
        line = axes.axvline if lying else axes.axhline
        line(drawing.limit[0], color=_INK, linewidth=1, linestyle="--", label=drawing.limit[1])


def _paper_bar() -> dict[str, Any]:
    """The paper's bars are empty and hatched: no one takes them for measured ones, in black and white either."""
    return {"facecolor": "none", "edgecolor": _INK, "hatch": _HATCH, "linewidth": 0.8}


def _lines(axes: Any, drawing: Lines) -> None:
    for at, series in enumerate(drawing.series):
        _line(axes, drawing.x, series, _colour(at))
    axes.set_xscale("log", base=2)
    axes.set_xticks(drawing.x, [f"{x:g}" for x in drawing.x])
    axes.minorticks_off()
    axes.set_xlabel(drawing.x_label)
    axes.set_ylabel(drawing.unit)
    axes.set_ylim(bottom=0)
    _legend(axes)


def _line(axes: Any, x: Sequence[float], series: Series, colour: str) -> None:
    found = [(where, p) for where, p in zip(x, series.points, strict=True) if p is not None]
    places, points = [where for where, _ in found], [p for _, p in found]
    look = {"color": _INK, "marker": "x", "linestyle": "none"} if series.paper else {"color": colour, "marker": "o"}
    axes.errorbar(
        places, [p.middle for p in points], _error(points), label=series.label, capsize=2, markersize=4, **look
    )


def _segments(axes: Any, drawing: Segments) -> None:
    names = list(dict.fromkeys(name for _, parts in drawing.rows for name, _ in parts))
    for number, (_, parts) in enumerate(drawing.rows):
        left = 0.0
        for name, length in parts:
            axes.barh(
                number, length, 0.6, left=left, color=_colour(names.index(name)), edgecolor="white", linewidth=0.5
            )
            left += length
    axes.set_yticks(range(len(drawing.rows)), [label for label, _ in drawing.rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(drawing.unit)
    for at, name in enumerate(names):
        axes.bar(0, 0, color=_colour(at), label=name)
    _legend(axes)


def _timeline(axes: Any, drawing: Timeline) -> None:
    labels = list(dict.fromkeys(span.label for span in drawing.spans))
    for span in drawing.spans:
        lane, colour = drawing.lanes.index(span.lane), _colour(labels.index(span.label))
        height = max(_THINNEST, _LANE - _STEP * span.depth)
        axes.barh(lane, span.end - span.begin, height, left=span.begin, color=colour, edgecolor=_INK, linewidth=0.3)
    axes.set_yticks(range(len(drawing.lanes)), drawing.lanes)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("us")
    for at, label in enumerate(labels):
        axes.bar(0, 0, color=_colour(at), label=label)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Below the drawing: it covers nothing, however many there are."""
    if axes.get_legend_handles_labels()[1]:
        axes.figure.legend(loc="outside lower center", ncols=3, fontsize=9)


_DRAW: Final[dict[type, Callable[[Any, Any], None]]] = {
    Bars: _bars,
    Lines: _lines,
    Segments: _segments,
    Timeline: _timeline,
}
