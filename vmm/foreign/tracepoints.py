"""Trace points of a vmm whose guest is behind a socket: port accesses and world switches."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns

from machine import trace
from machine.seams import Points, Seam, override
from machine.trace import Note, trap_argument
from vmm.foreign.function import LanceFunction
from vmm.foreign.line import ClientLine
from vmm.tracepoints import switch_points
from vmm.worldswitch import WorldSwitch

__all__ = ["trace_points"]


def trace_points(function: LanceFunction, line: ClientLine, switch: WorldSwitch) -> Points:
    """The trace points of a vmm with these."""

    def make(note: Note) -> Sequence[Seam]:
        return (
            override(function, _traced_function(note)),
            override(line, _traced_line(note)),
            switch_points(switch, note),
        )

    return make


def _traced_function(note: Note) -> type[LanceFunction]:
    clock = monotonic_ns

    class TracedFunction(LanceFunction):
        def _access(self, key: int, value: int) -> int:
            argument = trap_argument(key, self.traps)
            begin = clock()
            result = LanceFunction._access(self, key, value)
            note(begin, clock(), trace.VMM_TRAP, argument)
            return result

    return TracedFunction


def _traced_line(note: Note) -> type[ClientLine]:
    clock = monotonic_ns

    class TracedLine(ClientLine):
        def set_line(self, irq: int, level: int) -> None:
            begin = clock()
            ClientLine.set_line(self, irq, level)
            if level:
                note(begin, clock(), trace.DELIVER, 0)

    return TracedLine
