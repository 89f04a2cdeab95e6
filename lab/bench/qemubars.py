"""What is compared in ``bench qemu``, and the goals of mode optimised; shared by the benchmark and the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from lab.bench.tables import NOTHING
from lab.readings import DIRECTIONS, quotient, tail_label

__all__ = [
    "BARS",
    "CONFIGURATIONS",
    "DIRECTIONS",
    "HELD",
    "OWN",
    "Bar",
    "Samples",
    "quotient",
    "tail_of_pings",
    "verdicts",
]

OWN: Final = "QEMU's own"
HELD: Final = "optimised"
CONFIGURATIONS: Final = (OWN, "2.0", HELD)


class Bar(NamedTuple):
    """A goal: the ratio of a median to QEMU's own card's. ``keys``: of the samples; ``at_least``: more is better."""

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


def tail_of_pings(samples: Samples) -> str:
    """What the metric "rtt_p99_ms" may be called, by how many pings there were; earlier results do not tell."""
    pings = samples.values(metric="pings")
    return tail_label(int(min(pings))) if pings else "p99"


def verdicts(samples: Samples) -> Iterator[tuple[bool | None, str]]:
    """For each goal whether it was reached (None: not measured), and a line with the goal and what was found."""
    for name, bar in BARS.items():
        found = quotient(samples.values(configuration=HELD, **bar.keys), samples.values(configuration=OWN, **bar.keys))
        goal = f"goal {'>=' if bar.at_least else '<='} {bar.ratio:g} of {OWN}"
        if found is None:
            yield None, f"{name}: {goal}: {NOTHING}"
        else:
            yield bar.met(found), f"{name}: {goal}: {found:.3f}"
