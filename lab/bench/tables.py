"""What stands in the tables of benchmarks: a series of measurements as text, its median and its spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lab.bench.samples import median
from lab.textlayout import table

__all__ = ["NOTHING", "percent", "spread", "table"]

NOTHING: Final = "-"


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
