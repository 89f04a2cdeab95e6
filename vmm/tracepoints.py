"""The vmm's trace points: traps, world switches with the host world within, interrupts raised, the idle guest."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns

from machine import ring, trace, world
from machine.layout import INTERRUPT_MAILBOX
from machine.seams import Points, Seam, override
from machine.trace import Note, trap_argument
from vmm.monitor import Monitor
from vmm.worldswitch import WorldSwitch

__all__ = ["switch_points", "trace_points"]


def trace_points(monitor: Monitor, switch: WorldSwitch) -> Points:
    """The trace points of a vmm."""

    def make(note: Note) -> Sequence[Seam]:
        traced_monitor, traced_switch = _traced(note)
        return override(monitor, traced_monitor), override(switch, traced_switch)

    return make


def switch_points(switch: WorldSwitch, note: Note) -> Seam:
    """The trace points of world switches alone, for a vmm with another kind of monitor."""
    return override(switch, _traced(note)[1])


def _traced(note: Note) -> tuple[type[Monitor], type[WorldSwitch]]:
    """Both classes, because the end of a trap that vmapp completes is known to the switch alone."""
    clock = monotonic_ns
    resumed_at = 0

    class TracedMonitor(Monitor):
        def _trap(self, base: int) -> None:
            nonlocal resumed_at
            gate = self._gate
            key = gate[base + ring.KEY]
            if key & 0xFF == ring.KIND_HLT:  # not a piece of work, but the guest's idle time
                Monitor._trap(self, base)
                return
            argument = trap_argument(key, gate[base + ring.SEQUENCE])
            resumed_at = 0
            begin = clock()
            Monitor._trap(self, base)
            note(begin, resumed_at or clock(), trace.VMM_TRAP, argument)

        def _deliver(self) -> None:
            waiting = self._gate[INTERRUPT_MAILBOX]
            begin = clock()
            Monitor._deliver(self)
            if not waiting:
                note(begin, clock(), trace.DELIVER, 0)

        def _halt_here(self, gate: memoryview, following: int) -> None:
            begin = clock()
            Monitor._halt_here(self, gate, following)
            note(begin, clock(), trace.HALT, 0)

    class TracedSwitch(WorldSwitch):
        __slots__ = ()

        def run(self, reason: int) -> None:
            nonlocal resumed_at
            begin = clock()
            WorldSwitch.run(self, reason)
            resumed_at = (
                self._world[world.LEFT_NS] if self.resumed else 0
            )  # it wakes up for the next trap, and this was over then
            self._note(begin, resumed_at or clock(), trace.SWITCH, reason)

        def idle(self, gate: memoryview, next_state: int) -> None:
            begin = clock()
            WorldSwitch.idle(self, gate, next_state)
            self._note(begin, clock(), trace.IDLE, world.REASON_HLT)

        def _note(self, begin: int, end: int, code: int, reason: int) -> None:
            note(self._world[world.ENTERED_NS], self._world[world.LEFT_NS], trace.HOST_WORLD, reason)
            note(begin, end, code, reason)

    return TracedMonitor, TracedSwitch
