"""What is compared in ``bench qemu``, and what mode optimised is held to; shared by the benchmark and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from lab.bench.samples import median
from lab.bench.tables import NOTHING
from lab.textlayout import tail_name

__all__ = ["BARS", "CONFIGURATIONS", "DIRECTIONS", "HELD", "OWN", "Bar", "Samples", "quotient", "tail_of", "verdicts"]

OWN: Final = "QEMU's own"
HELD: Final = "optimised"
CONFIGURATIONS: Final = (OWN, "2.0", HELD)
DIRECTIONS: Final = ("transmit", "receive")


class Bar(NamedTuple):
    """The ratio of a median to that of QEMU's own card. ``keys``: of the samples; ``at_least``: more is better."""

    keys: dict[str, str]
    ratio: float
    at_least: bool

    def met(self, ratio: float) -> bool:
        """Whether ``ratio`` is good enough."""
        return ratio >= self.ratio if self.at_least else ratio <= self.ratio


BARS: Final = {
    "bulk transmit": Bar({"metric": "goodput_mbps", "direction": "transmit"}, 1.0, at_least=True),
    "bulk receive": Bar({"metric": "goodput_mbps", "direction": "receive"}, 1.0, at_least=True),
    "ping's round trip": Bar({"metric": "rtt_p50_ms"}, 1.5, at_least=False),
}


class Samples(Protocol):
    """A recorder, or a result that was read back."""

    def values(self, **keys: str) -> list[float]:
        """The values of every sample that has all of ``keys``."""


def quotient(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Of two medians; None if one is missing or the second is zero."""
    if not above or not below or not median(below):
        return None
    return median(above) / median(below)


def tail_of(samples: Samples) -> str:
    """What the 99th percentile of a series of pings may be called; earlier results do not say how many there were."""
    counts = samples.values(metric="pings")
    return tail_name(int(min(counts))) if counts else "p99"


def verdicts(samples: Samples) -> Iterator[tuple[bool | None, str]]:
    """For each aim whether it was reached (None: not measured), and a line that says so."""
    for name, bar in BARS.items():
        found = quotient(samples.values(configuration=HELD, **bar.keys), samples.values(configuration=OWN, **bar.keys))
        aim = f"the goal of {'at least' if bar.at_least else 'at most'} {bar.ratio:g}"
        if found is None:
            yield None, f"{name}: {NOTHING} ({aim})"
        else:
            met = bar.met(found)
            missed = "below" if bar.at_least else "above"
            yield met, f"{name}: {found:.3f} of {OWN} ({'within' if met else missed} {aim})"
