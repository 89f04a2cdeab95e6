"""Tables as benchmarks print them, and a series of measurements as text: its median and its spread."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Final

from lab.readings import median

__all__ = ["NOTHING", "figure", "percent", "plain", "spread", "table", "warn"]

NOTHING: Final = "-"
_GAP: Final = "  "
_YELLOW: Final = "\x1b[33m"  # ECMA-48, select graphic rendition
_PLAIN: Final = "\x1b[m"


Writer = Callable[[float, int], str]


def plain(value: float, digits: int = 1) -> str:
    """A number with so many digits after the point."""
    return f"{value:.{digits}f}"


def figure(value: float, digits: int = 1) -> str:
    """As ``plain``, but what is not zero never looks like zero: "<0.1"."""
    text = plain(value, digits)
    if value == 0 or float(text) != 0:
        return text
    return f"{'<' if value > 0 else '>-'}{10**-digits:.{digits}f}"


def warn(line: str) -> None:
    """Prints a line that must not be overlooked: in colour on a terminal, unless NO_COLOR (no-color.org) is set."""
    coloured = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    print(f"{_YELLOW}{line}{_PLAIN}" if coloured else line, flush=True)


def spread(values: Sequence[float], digits: int = 1, scale: float = 1.0, write: Writer = plain) -> str:
    """Median and extremes, "93.1 [92.8..93.4]"; of a single value that alone; "-" if there is none."""
    if not values:
        return NOTHING
    middle = write(median(values) * scale, digits)
    if len(values) == 1:
        return middle
    return f"{middle} [{write(min(values) * scale, digits)}..{write(max(values) * scale, digits)}]"


def percent(values: Sequence[float]) -> str:
    """As ``spread``, of shares (0 to 1); a share that is not zero does not look like it."""
    return spread(values, scale=100.0, write=figure)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need, the first to the left, the others to the right; short rows end early."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = enumerate(zip(cells, widths, strict=False))
    return _GAP.join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in pairs).rstrip()
