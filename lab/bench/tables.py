"""Tables as benchmarks print them, and a series of measurements as text: its median and its spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from lab.bench.samples import median

__all__ = ["NOTHING", "percent", "spread", "table"]

NOTHING: Final = "-"
_GAP: Final = "  "


def spread(values: Sequence[float], digits: int = 1, scale: float = 1.0) -> str:
    """Median and extremes, "93.1 [92.8..93.4]"; of a single value that alone; "-" if there is none."""
    if not values:
        return NOTHING
    middle = f"{median(values) * scale:.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} [{min(values) * scale:.{digits}f}..{max(values) * scale:.{digits}f}]"


def percent(values: Sequence[float]) -> str:
    """As ``spread``, of shares (0 to 1)."""
    return spread(values, scale=100.0)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need, the first to the left, the others to the right; short rows end early."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = enumerate(zip(cells, widths, strict=False))
    return _GAP.join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in pairs).rstrip()
