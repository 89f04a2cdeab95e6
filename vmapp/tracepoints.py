"""vmapp's trace points: Lance accesses and effects, frames, and every system call on the host TAP.

When vmapp has the processor at all is in the world-switch record, and traced by the vmm.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from time import monotonic_ns

from machine import trace
from machine.seams import Points, Seam, attribute, override
from machine.trace import Note
from vmapp.hostworld import HostWorld
from vmapp.lance.engine import LanceEngine
from vmapp.lance.port import TapPort
from vmapp.lance.receive import BURST

__all__ = ["trace_points"]


def trace_points(host: HostWorld, engine: LanceEngine, port: TapPort) -> Points:
    """The trace points of a vmapp made of these."""

    def make(note: Note) -> Sequence[Seam]:
        return (
            override(host, _traced_host(note)),
            attribute(host, "tap_events", _TracedEvents(host.tap_events, note)),
            override(engine, _traced_engine(note)),
            override(port, _traced_port(note)),
        )

    return make


class _TracedEvents:
    """select() at a return to the host world."""

    def __init__(self, events: select.epoll, note: Note) -> None:
        self._poll = events.poll
        self._note = note

    def poll(self, timeout: float, limit: int) -> list[tuple[int, int]]:
        begin = monotonic_ns()
        ready = self._poll(timeout, limit)
        self._note(begin, monotonic_ns(), trace.SELECT, len(ready))
        return ready


def _traced_host(note: Note) -> type[HostWorld]:
    clock = monotonic_ns

    class TracedHostWorld(HostWorld):
        def _bind(self, key: int) -> Callable[[int], int]:
            untraced = HostWorld._bind(self, key)

            def access(value: int) -> int:
                begin = clock()
                result = untraced(value)
                note(begin, clock(), trace.ACCESS, key)
                return result

            self._bound[key] = access
            return access

        def _block(self, timeout_ms: int) -> list[tuple[int, int]]:
            begin = clock()
            ready = HostWorld._block(self, timeout_ms)
            note(begin, clock(), trace.SLEEP, len(ready))
            return ready

    return TracedHostWorld


def _traced_engine(note: Note) -> type[LanceEngine]:
    clock = monotonic_ns

    class TracedEngine(LanceEngine):
        def run(self, effect: int) -> None:
            begin = clock()
            LanceEngine.run(self, effect)
            note(begin, clock(), trace.ENGINE, effect)

        def poll(self) -> bool:
            begin = clock()
            sent = LanceEngine.poll(self)
            note(begin, clock(), trace.POLL, sent)
            return sent

        def receive(self, burst: int = BURST) -> int:
            begin = clock()
            taken = LanceEngine.receive(self, burst)
            note(begin, clock(), trace.RECEIVE, taken)
            return taken

    return TracedEngine


def _traced_port(note: Note) -> type[TapPort]:
    clock = monotonic_ns

    class TracedPort(TapPort):
        __slots__ = ()

        def send(self, parts: list[memoryview] | memoryview) -> bool:
            size = sum(map(len, parts)) if isinstance(parts, list) else len(parts)
            begin = clock()
            sent = TapPort.send(self, parts)
            note(begin, clock(), trace.TAP_WRITE, size)
            return sent

        def recv_into(self, parts: list[memoryview]) -> int:
            begin = clock()
            size = TapPort.recv_into(self, parts)
            note(begin, clock(), trace.TAP_READ, size)
            return size

    return TracedPort
