"""What follows from readings: every formula behind a printed figure, once.

A figure that stands in ``worldswitch demo``, in a benchmark's table and in the report must mean the same in all
three, or a reader compares what cannot be compared. So nothing else in ``lab`` divides a counter by frames, bytes by
seconds, or takes the middle of samples; tests/unit/lab/test_readings.py looks for it. What follows from counters
alone, without a second reading, is in ``lab.status`` (``derive``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

__all__ = [
    "DIRECTIONS",
    "LAYERS",
    "LOST",
    "each_packet",
    "frames",
    "grown",
    "growth",
    "idle_share",
    "io_traps",
    "mbps",
    "median",
    "megabits",
    "per_packet",
    "percentile",
    "port_accesses",
    "quotient",
    "tail_label",
]

N = TypeVar("N", int, float)

DIRECTIONS: Final = ("transmit", "receive")
"""Machine A sends, machine A receives."""

LOST: Final = ("rx_missed", "tap_write_errors", "queue_drops")
"""Metrics that count frames which were lost: for want of a receive descriptor, in write(), and in queues."""

LAYERS: Final = {
    "raw": "two bare processes",
    "vmm": "a trap that the vmm answers",
    "vmapp": "a trap that vmapp answers",
}
"""What a round trip of ``bench handoff`` goes through -> what that is called."""

_BITS: Final = 8
_MEGA: Final = 1e6
_NS: Final = 1e9
_WORD: Final = 1 << 64  # counters are words of 64 bits (machine.counters)
_WHOLE: Final = 100


# -- samples ------------------------------------------------------------------------------------------------------


def median(values: Iterable[float]) -> float:
    """The middle value; of two, their mean."""
    return statistics.median(values)


def percentile(values: Iterable[float], percent: float) -> float:
    """The least value that ``percent`` of all values do not exceed (nearest rank); the values need no order."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / _WHOLE) - 1)]


def tail_label(count: int, percent: int = 99) -> str:
    """What the ``percent``-th percentile of ``count`` values may be called: of too few, it is the slowest of them."""
    return f"p{percent}" if count * (_WHOLE - percent) >= _WHOLE else "slowest"


def quotient(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Of two medians; None if one is missing or the second is zero."""
    if not above or not below or not median(below):
        return None
    return median(above) / median(below)


# -- counters -----------------------------------------------------------------------------------------------------


def growth(before: int, after: int) -> int | None:
    """By how much a counter grew; None if it began anew, as it does with a new stack of the same name.

    A word that has passed 2**64 has not begun anew: its growth, modulo 2**64, is small.
    """
    difference = (after - before) % _WORD
    return difference if difference < _WORD // 2 else None


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """``growth`` of each counter that both readings have; of one that began anew, a negative difference."""
    found = {}
    for name, first in before.items():
        if name in after:
            difference = growth(first, after[name])
            found[name] = after[name] - first if difference is None else difference
    return found


def frames(spent: Mapping[str, int]) -> int:
    """Frames through the virtual NIC, both ways."""
    return spent["tx_frames"] + spent["rx_frames"]


def io_traps(spent: Mapping[str, N]) -> N:
    """Port accesses that trapped, to whichever device, or their rate. HLT traps, too, but is none."""
    return spent["io_in"] + spent["io_out"]


def port_accesses(spent: Mapping[str, int]) -> int:
    """Accesses to the Lance, as the paper counts them: without the 8259A's, and with those to RAP that do not trap."""
    return io_traps(spent) - spent["pic_accesses"] + spent["rap_stores"]


def each_packet(spent: Mapping[str, float], packets: int) -> dict[str, float]:
    """Everything for each of ``packets``, which count as one at least: "x" becomes "x_per_packet"."""
    return {f"{name}_per_packet": value / max(1, packets) for name, value in spent.items()}


def per_packet(spent: Mapping[str, int], packets: int | None = None) -> dict[str, float]:
    """What a packet cost, from counters that grew (``lab.status``). ``packets``: None for ``frames``, which they count.

    Traps: port accesses that trap, and HLT. World switches for I/O: those for a port access, and for queued packets.
    """
    irqs = spent["irqs_raised"]
    costs = each_packet(
        {
            "traps": io_traps(spent) + spent["hlt"],
            "io_switches": spent["switches_for_io"] + spent["switches_for_send"],
            "port_accesses": port_accesses(spent),
            "world_switches": spent["world_switches"],
            "irqs": irqs,
            "pic_accesses": spent["pic_accesses"],
        },
        frames(spent) if packets is None else packets,
    )
    return costs | ({"pic_accesses_per_irq": spent["pic_accesses"] / irqs} if irqs else {})


# -- bytes and time -----------------------------------------------------------------------------------------------


def megabits(bits: float) -> float:
    """10**6 bit."""
    return bits / _MEGA


def mbps(count: float, seconds: float) -> float:
    """Megabits (10**6 bit) a second, from bytes; 0 for no time at all."""
    return megabits(count * _BITS / seconds) if seconds > 0 else 0.0


def idle_share(idle_ns: float, seconds: float) -> float:
    """The guest's own idle share, 0 to 1. A HLT counts when it ends, so that one may be longer than the interval."""
    return min(1.0, max(0.0, idle_ns / _NS / seconds)) if seconds > 0 else 0.0
