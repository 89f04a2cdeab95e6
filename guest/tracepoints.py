"""The guest's trace points: traps, interrupt handlers, HLT, frames between driver and network stack."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns

from guest.cpu import Cpu
from guest.drivers.pcnet import Pcnet
from guest.events import Events
from machine import trace
from machine.layout import INTERRUPT_MAILBOX
from machine.seams import Points, Seam, override
from machine.trace import Note, trap_argument

__all__ = ["trace_points"]


def trace_points(cpu: Cpu, chip: Pcnet) -> Points:
    """The trace points of a guest with this processor and this NIC driver."""

    def make(note: Note) -> Sequence[Seam]:
        return override(cpu, _traced_cpu(note)), override(chip, _traced_chip(note))

    return make


def _traced_cpu(note: Note) -> type[Cpu]:
    clock = monotonic_ns
    interrupted = 0  # when the interrupts that a trap ended with began: there the trap itself was over

    class TracedCpu(Cpu):
        __slots__ = ()

        def _trap(self, key: int, value: int) -> int:
            nonlocal interrupted
            argument = trap_argument(key, self._sequence + 1)
            interrupted = 0
            begin = clock()
            result = Cpu._trap(self, key, value)
            note(begin, interrupted or clock(), trace.TRAP, argument)
            return result

        def _take_interrupts(self) -> None:
            nonlocal interrupted
            vector = self._gate[INTERRUPT_MAILBOX] - 1
            begin = clock()
            Cpu._take_interrupts(self)
            interrupted = begin
            note(begin, clock(), trace.INTERRUPT, vector)

        def hlt(self, events: Events) -> None:
            nonlocal interrupted
            interrupted = 0
            begin = clock()
            Cpu.hlt(self, events)
            note(begin, interrupted or clock(), trace.HLT, 0)

    return TracedCpu


def _traced_chip(note: Note) -> type[Pcnet]:
    clock = monotonic_ns

    class TracedPcnet(Pcnet):
        def queue_from_stack(self, flags: int = 0) -> bool:
            begin = clock()
            queued = Pcnet.queue_from_stack(self, flags)
            note(begin, clock(), trace.GUEST_READ, queued)
            return queued

        def _to_stack(self, fd: int, frame: memoryview) -> None:
            begin = clock()
            Pcnet._to_stack(self, fd, frame)
            note(begin, clock(), trace.GUEST_WRITE, len(frame))

    return TracedPcnet
