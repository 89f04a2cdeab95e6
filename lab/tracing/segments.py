"""The one OUT that transmits, segment by segment (paper section 3.2, Figure 5), from a trace.

An OUT of the guest is paired with the trap of the same number in the vmm; within that lies one stay in the host
world, and within that the write() calls on the TAP. A trap in which any of these is missing is not of this kind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from lab.tracing.record import Trace
from machine import trace as events
from machine.ring import KIND_OUT
from machine.trace import Record

__all__ = ["ON_THE_WIRE", "SEGMENTS", "TOTAL", "transmissions", "within"]

SEGMENTS: Final = {
    "wake": "guest was halted: vmapp leaves select(), back to the vmm",
    "trap": "guest posts the trap -> the vmm takes it",
    "dispatch": "vmm: dispatch, until it leaves its world",
    "switch_there": "world switch to vmapp",
    "emulate": "vmapp: Lance access and transmit, until write()",
    "write": "write() on the host TAP (the last one's end, if several)",
    "finish": "vmapp: TMD back, select(), until it leaves the host world",
    "switch_back": "world switch back, until vmm or guest runs",
    "interrupt": "vmm: raises the virtual IRQ",
    "resume": "vmm completes the trap -> guest runs again",
}
"""Name -> meaning, in order of time. Where vmapp resumes the guest itself, the last two take no time."""

ON_THE_WIRE: Final = "on_the_wire"  # from the trap to the end of the last write()
TOTAL: Final = "total"


def within(records: Sequence[Record], outer: Record) -> Sequence[Record]:
    """Those of ``records``, which are in order of begin, that lie within ``outer``."""
    first = bisect_left(records, outer.begin, key=lambda record: record.begin)
    last = bisect_left(records, outer.end, lo=first, key=lambda record: record.begin)
    return [record for record in records[first:last] if record.end <= outer.end]


def transmissions(trace: Trace) -> Iterator[dict[str, int]]:
    """For each OUT that made vmapp write: its segments, ``ON_THE_WIRE`` and ``TOTAL``, in ns."""
    taken = {record.argument: record for record in trace.of(events.VMM_TRAP)}
    switches, hosts = trace.of(events.SWITCH), trace.of(events.HOST_WORLD)
    writes, raised = trace.of(events.TAP_WRITE), trace.of(events.DELIVER)
    idle = trace.of(events.IDLE)
    for trap in trace.of(events.TRAP):
        handled = taken.get(trap.argument)
        if handled is None or trap.argument & 0xFF != KIND_OUT:
            continue
        switch, host = within(switches, handled)[:1], within(hosts, handled)[:1]
        sent = within(writes, host[0]) if host else ()
        if switch and sent:
            woken = _last_end(idle, handled.begin)
            yield _measure(trap, woken, handled, switch[0], host[0], sent, within(raised, handled)[:1])


def _last_end(records: Sequence[Record], before: int) -> int:
    """When the last of ``records`` that began before ``before`` ended; 0 if there is none."""
    at = bisect_left(records, before, key=lambda record: record.begin)
    return min(records[at - 1].end, before) if at else 0


def _measure(
    trap: Record,
    woken: int,
    handled: Record,
    switch: Record,
    host: Record,
    sent: Sequence[Record],
    raised: Sequence[Record],
) -> dict[str, int]:
    """Marks in order of time; each is put after the one before it, should two CPUs have overtaken each other."""
    back = min(switch.end, trap.end)
    interrupted = min(raised[0].end, trap.end) if raised else back
    marks = (
        woken,
        handled.begin,
        switch.begin,
        host.begin,
        sent[0].begin,
        sent[-1].end,
        host.end,
        back,
        interrupted,
        trap.end,
    )
    found = {}
    last = trap.begin
    for name, mark in zip(SEGMENTS, marks, strict=True):
        found[name] = max(0, mark - last)
        last = max(last, mark)
    return found | {ON_THE_WIRE: sent[-1].end - trap.begin, TOTAL: last - trap.begin}
