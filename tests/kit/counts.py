"""How much of a long test runs: a sample of it in each run of all tests, the whole of it with `scripts/test --long`.

What is repeated at random moments, or for each of many combinations, finds more the longer it runs. A run of all tests
takes about a tenth of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, TypeVar

__all__ = ["FULL", "rounds", "sample"]

T = TypeVar("T")

FULL: Final = os.environ.get("WORLDSWITCH_FULL_COUNTS") == "1"


def rounds(full: int) -> int:
    """How often to repeat what is repeated ``full`` times in a long run."""
    return full if FULL else max(1, full // 10)


def sample(everything: Sequence[T], usual: Sequence[T]) -> Sequence[T]:
    """``everything`` in a long run, else the part of it that every run has."""
    assert all(each in everything for each in usual)
    return everything if FULL else usual
