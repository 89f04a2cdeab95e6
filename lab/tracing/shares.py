"""Whose time was it? Divides the time of a trace among kinds of work, for ``bench breakdown``.

Guest, vmm and vmapp take turns on one CPU, and the records of all three overlap: while the guest waits in a trap, the
vmm handles it, and vmapp may write a frame for it. Each moment belongs to the innermost work going on; what is left
of a trap when its inner parts are taken away is the trap's own cost, the changes of process included. All kinds
together are the whole time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lab.portnames import LANCE_RAP, LANCE_RDP, PIC_PORTS
from lab.tracing.record import Trace
from lab.tracing.segments import within
from machine import ring, world
from machine import trace as events
from machine.ports import LANCE_DEFAULT_BASE
from machine.trace import Record

__all__ = ["KINDS", "Division", "divide"]

KINDS: Final = (
    "switching",  # IN/OUTs for which worlds are switched: all of it but vmapp's work proper
    "rap",  # those to the Lance's address port that trap
    "pic",
    "status",  # those to the Lance's data port that the vmm finishes
    "other_ports",
    "irq_delivery",
    "host_irqs",  # switches because of a host interrupt or timer, without what vmapp then does
    "tap_write",
    "tap_read",
    "select",
    "lance_transmit",
    "lance_receive",
    "lance_status",  # accesses to the data port as vmapp emulates them
    "halted",  # from HLT on: the CPU idles, or runs the guest's applications and the kernel
    "guest",  # everything else: the guest's driver, its kernel, its applications
)

_RDP: Final = LANCE_DEFAULT_BASE + LANCE_RDP
_RAP: Final = LANCE_DEFAULT_BASE + LANCE_RAP
_FORCED: Final = frozenset((world.REASON_IRQ, world.REASON_TICK))

_BY_CODE: Final = {  # code -> (rank, kind): of what goes on at once, the highest rank has the moment
    events.TAP_WRITE: (10, "tap_write"),
    events.TAP_READ: (10, "tap_read"),
    events.SELECT: (10, "select"),
    events.SLEEP: (10, "halted"),
    events.ENGINE: (9, "lance_transmit"),
    events.POLL: (9, "lance_transmit"),
    events.RECEIVE: (9, "lance_receive"),
    events.ACCESS: (8, "lance_status"),
    events.DELIVER: (6, "irq_delivery"),
    events.IDLE: (2, "halted"),
    events.HALT: (2, "halted"),
    events.HLT: (1, "halted"),
}
_HOST_RANK: Final = 7
_SWITCH_RANK: Final = 5
_VMM_RANK: Final = 4
_GUEST_RANK: Final = 3
_PARTS: Final = (_HOST_RANK, _SWITCH_RANK, _VMM_RANK)  # of something that is counted already
_RANKS: Final = 11


class _Span(NamedTuple):
    begin: int
    end: int
    rank: int
    kind: str


@dataclass(slots=True)
class Division:
    """``ns``: kind -> time; together ``whole_ns``. ``counts``: kind -> how often, where that can be counted."""

    whole_ns: int
    ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def share(self, *kinds: str) -> float:
        """Of the whole time, 0 to 1."""
        return sum(self.ns[kind] for kind in kinds) / max(1, self.whole_ns)

    def average_ns(self, *kinds: str, per: str | None = None) -> float:
        """Time for each event; counted are those of kind ``per``, or of ``kinds`` themselves. 0 if there was none."""
        count = self.counts[per] if per else sum(self.counts[kind] for kind in kinds)
        return sum(self.ns[kind] for kind in kinds) / count if count else 0.0


def divide(trace: Trace) -> Division:
    """The division of the whole trace. Meant for processes that share one CPU; else times overlap and one wins."""
    division = Division(trace.end - trace.begin)
    spans = list(_spans(trace))
    for span in spans:
        if span.rank not in _PARTS:
            division.counts[span.kind] += 1
    for kind, ns in _sweep(spans):
        division.ns[kind] += ns
    division.ns["guest"] += division.whole_ns - sum(division.ns.values())
    return division


def _spans(trace: Trace) -> Iterator[_Span]:
    for code, (rank, kind) in _BY_CODE.items():
        yield from (_Span(record.begin, record.end, rank, kind) for record in trace.of(code))
    for code, rank in ((events.HOST_WORLD, _HOST_RANK), (events.SWITCH, _SWITCH_RANK)):
        yield from (_Span(record.begin, record.end, rank, _by_reason(record)) for record in trace.of(code))
    switches = [record for record in trace.of(events.SWITCH) if record.argument not in _FORCED]
    kinds: dict[int, str] = {}
    for record in trace.of(events.VMM_TRAP):
        kinds[record.argument] = kind = _trap_kind(record, bool(within(switches, record)))
        yield _Span(record.begin, record.end, _VMM_RANK, kind)
    for record in trace.of(events.TRAP):
        kind = kinds.get(record.argument) or _trap_kind(record, switched=False)
        yield _Span(record.begin, record.end, _GUEST_RANK, kind)


def _by_reason(record: Record) -> str:
    if record.argument in _FORCED:
        return "host_irqs"
    return "halted" if record.argument == world.REASON_HLT else "switching"


def _trap_kind(record: Record, switched: bool) -> str:
    port = ring.unpack_key(record.argument & 0xFFFFFFFF)[2]
    if switched:
        return "switching"
    if port in PIC_PORTS:
        return "pic"
    return {_RAP: "rap", _RDP: "status"}.get(port, "other_ports")


def _sweep(spans: Iterable[_Span]) -> Iterator[tuple[str, int]]:
    """(kind, ns) of every stretch of time that is somebody's. Of one rank only one span is open, or the last opened."""
    marks = [(span.begin, 1, span) for span in spans] + [(span.end, 0, span) for span in spans]
    marks.sort(key=lambda mark: (mark[0], mark[1]))
    open_spans: list[list[_Span]] = [[] for _ in range(_RANKS)]
    last, owner = 0, None
    for at, opens, span in marks:
        if owner is not None and at > last:
            yield owner.kind, at - last
        last = at
        stack = open_spans[span.rank]
        if opens:
            stack.append(span)
        elif span in stack:
            stack.remove(span)
        owner = next((stack[-1] for stack in reversed(open_spans) if stack), None)
