"""Whether a measurement may be believed: its counters, its load's word and its CPUs' time must not contradict it.

A table of zeros that says "complete" is worse than none. So every measurement with a window is held against what was
counted meanwhile, by parties that know nothing of each other: the network card's counters, the peer's interface, the
load's own report, /proc/stat. One that is contradicted is made once more; if that one is, too, it is recorded as
invalid, with the reason, and no median is taken of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from lab import readings
from lab.bench.remarks import LONGEST_REASON
from lab.complaint import printable
from lab.load.cpu import CpuUse
from machine.errors import BenchError, GuestError

__all__ = [
    "Carried",
    "Measured",
    "Note",
    "attempted",
    "believed",
    "merged",
    "of_alone",
    "of_counters",
    "of_cpus",
    "of_frames",
    "of_load",
    "of_packets",
    "of_ticks",
    "of_wire",
]

Note = float | str | bool | None

_SLACK: Final = 0.25  # by how much two counts of one thing may differ: they are read one after the other
_SLACK_BYTES: Final = 1 << 20  # and queues hold something
_SLACK_EVENTS: Final = 32
_PACKET_SLACK: Final = 0.5
_LOAD_FACTOR: Final = 4.0  # the load's figure is of the whole transfer, the counters' of a part of it
_HALT_SLACK: Final = 1.2  # a HLT counts when it ends
_CPU_SLACK: Final = 0.4  # of the time that passed, how much the ticks of a CPU may lack, or have too much
_SHORTEST_SECONDS: Final = 0.3  # of less, ticks of 10 ms say nothing
_CLEAR: Final = "\r\x1b[K"  # to the line's begin, and nothing after it (ECMA-48)
_LOOKED_AT: Final = 4  # contradictions that a reason names; the first ones explain the rest


class Measured(dict[str, float]):
    """Metric -> value of one measurement. ``notes``: what its samples carry; ``faults``: what contradicts it."""

    def __init__(self, metrics: Mapping[str, float], notes: Mapping[str, Note] | None = None, *faults: str) -> None:
        super().__init__(metrics)
        self.notes: dict[str, Note] = dict(notes or {})
        self.faults = faults

    def marked(self, retries: int) -> Measured:
        """The same, with ``retries`` added to those of its load; invalid if it has faults."""
        notes = self.notes | {"retries": retries + _retries(self.notes)}
        if self.faults:
            notes |= {"valid": False, "reason": _reason(self.faults)}
        return Measured(self, notes, *self.faults)


def _reason(faults: Sequence[str]) -> str:
    """As many of the first contradictions as a reason has room for, the very first one in any case."""
    text = faults[0]
    for fault in faults[1:_LOOKED_AT]:
        if len(text) + len("; ") + len(fault) > LONGEST_REASON:
            break
        text += f"; {fault}"
    return text[:LONGEST_REASON]


def merged(first: Mapping[str, float], second: Mapping[str, float]) -> Measured:
    """Two measurements as one: the notes are those of the first, attempts are counted together."""
    notes, more = (one.notes if isinstance(one, Measured) else {} for one in (first, second))
    if retries := _retries(notes) + _retries(more):
        notes = notes | {"retries": retries}
    return Measured({**first, **second}, notes)


def _retries(notes: Mapping[str, Note]) -> int:
    count = notes.get("retries", 0)
    return count if isinstance(count, int) else 0


def attempted(measure: Callable[[], Measured]) -> Measured:
    """The measurement; once more if it is contradicted, or was not possible.

    BenchError or GuestError if it never is: a guest that answers late is no reason to throw all else away, either.
    """
    try:
        first = measure()
        if not first.faults:
            return first.marked(0)
        reason = first.faults[0]
    except (BenchError, GuestError) as error:
        reason = str(error)
    _tell(f"measured again: {reason}")
    return measure().marked(1)


def _tell(line: str) -> None:
    """A line on standard error, in the place of the progress bar; the measurement goes on if nobody reads it.

    It may quote what a guest has said.
    """
    with suppress(OSError):
        print(f"{_CLEAR if sys.stderr.isatty() else ''}{printable(line)}", file=sys.stderr, flush=True)


def believed(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The same, for those who go on from them; BenchError if they are contradicted."""
    if isinstance(metrics, Measured) and metrics.faults:
        raise BenchError(f"what was measured cannot be believed: {metrics.faults[0]}")
    return metrics


def of_counters(spent: Mapping[str, int]) -> Iterator[str]:
    """What counters that grew (``lab.status``) say against each other."""
    for name, value in spent.items():
        if value < 0:
            yield f"counter {name} went backwards"
    traps, switched = readings.io_traps(spent), spent.get("io_switched", 0)
    if switched > traps * (1 + _SLACK) + _SLACK_EVENTS:
        yield f"{switched} world switches for port accesses, of which there were {traps}"
    delivered, raised = spent.get("irqs_delivered", 0), spent["irqs_raised"]
    if delivered > raised * (1 + _SLACK) + _SLACK_EVENTS:
        yield f"the guest took {delivered} interrupts, of which {raised} were raised"
    if spent.get("idle_ns", 0) > spent.get("at_ns", 0) * _HALT_SLACK and "at_ns" in spent:
        yield "the guest says that it was idle for longer than it was observed"


def of_frames(spent: Mapping[str, int], fewest: int = 1) -> Iterator[str]:
    """Whether the card carried what it must have."""
    carried = readings.frames(spent)
    if carried < fewest:
        yield f"{carried} frames went through the network card, where {fewest} or more had to"


def of_alone(spent: Mapping[str, int]) -> Iterator[str]:
    """Whether received packets were lone ones, to a driver that sleeps until an interrupt tells it of each.

    A guest that has had no CPU for a while finds several at once, and what they cost each is no lone packet's cost.
    """
    interrupts, received = spent["irqs_raised"], spent["rx_frames"]
    if interrupts < received * (1 - _SLACK):
        yield f"{received} lone packets raised {interrupts} interrupts: the guest found several at once"


class Carried(NamedTuple):
    """Bytes through the peer's interface while a window was open: ``least`` and ``most``.

    The interface is read before and after the counters at both ends of the window: a machine that is busy may let a
    good part of a second pass between two reads, and that is no contradiction.
    """

    least: int
    most: int


def of_wire(spent: Mapping[str, int], carried: Carried) -> Iterator[str]:
    """Bytes through the card, and those that the peer's interface has received and sent meanwhile."""
    card = spent["tx_bytes"] + spent["rx_bytes"]
    too_few = card < carried.least * (1 - _SLACK) - _SLACK_BYTES
    if too_few or card > carried.most * (1 + _SLACK) + _SLACK_BYTES:
        yield f"the network card carried {card} bytes, the peer's interface {carried.least} to {carried.most}"


def of_load(carried: Carried, seconds: float, goodput_mbps: float) -> Iterator[str]:
    """Bytes that were counted in ``seconds``; beside it what the load says of its transfer."""
    least, most = (readings.mbps(count, seconds) for count in carried)
    slack = readings.mbps(_SLACK_BYTES, seconds)
    if goodput_mbps > _LOAD_FACTOR * most + slack or least > _LOAD_FACTOR * goodput_mbps + slack:
        yield f"the load says {goodput_mbps:.1f} Mb/s, what was counted is {most:.1f} Mb/s"


def of_packets(counted: int, said: int, who: str) -> Iterator[str]:
    """Two counts of the same frames: our counters', and ``who`` says so. They may begin and end a little apart."""
    if abs(counted - said) > _PACKET_SLACK * max(counted, said) + _SLACK_EVENTS:
        yield f"the network card counted {counted} frames, {who} {said}"


def of_ticks(use: CpuUse) -> Iterator[str]:
    """An idle share needs ticks that it is a share of: of a time without one it would read 0 %."""
    if not all(any(spent) for spent in use.spent.values()):
        yield f"{use.seconds:.3f} s are less than a tick of /proc/stat; measure for longer (--seconds)"


def of_cpus(use: CpuUse, ticks_a_second: float = 100.0) -> Iterator[str]:
    """Idle and busy time, together with what the hypervisor took, must be the time that passed."""
    if use.seconds < _SHORTEST_SECONDS:
        return
    for cpu, spent in use.spent.items():
        found = sum(spent) / ticks_a_second / use.seconds
        if abs(found - 1) > _CPU_SLACK:
            yield f"/proc/stat has {found:.0%} of the time of CPU {cpu}"
