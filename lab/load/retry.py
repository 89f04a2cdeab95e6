"""One more attempt for a load that failed: a server that starts late once must not end an hour of measurements.

Everything that starts iperf3 or nettest does so through here, so that no two places have different ideas of how often
to try, and so that every result can say that it is a second one (``retries``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from machine.errors import BenchError

__all__ = ["RETRIES", "once_more"]

T = TypeVar("T")

RETRIES: Final = 1
"""A load that fails more often than that has a reason, and waiting longer for it would only hide it."""


def once_more(work: Callable[[], T]) -> tuple[T, int]:
    """What ``work`` returns, and how often it had failed before. Only a BenchError is worth another attempt.

    The last attempt's error is the caller's.
    """
    for failed in range(RETRIES):
        try:
            return work(), failed
        except BenchError:
            continue
    return work(), RETRIES
