"""What stands in the tables of benchmarks: a series of measurements as text, its median and its spread."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from lab.complaint import printable
from lab.readings import median
from lab.textlayout import table, wrapped

__all__ = ["NOTHING", "figure", "percent", "plain", "spread", "table", "warn"]

NOTHING: Final = "-"
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
    """Prints a remark that must not be overlooked: in colour on a terminal, unless NO_COLOR (no-color.org) is set.

    One that is longer than a line of the screen goes on below, farther to the right. It may quote what a guest said.
    """
    text = wrapped(printable(line), hanging="  ")
    coloured = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    print(f"{_YELLOW}{text}{_PLAIN}" if coloured else text, flush=True)


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
