"""Collects a trace: copies the processes' buffers while they write, and puts the records in order of time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from lab.stack import Stack
from lab.tracing.switch import switch_tracing
from machine.errors import StackError
from machine.launch import ROLES
from machine.shm import PageReader
from machine.trace import EVENTS, TRACE_BYTES, Buffer, Record, TraceReader

__all__ = ["Trace", "buffers_of_process", "buffers_of_stack", "collect", "record_stack", "waiting"]

_DRAIN_SECONDS: Final = 0.25

Buffers = Mapping[str, Buffer]
Switch = Callable[[float], object]


@dataclass(slots=True)
class Trace:
    """``records``: by the role whose time it was, in order of begin, an enclosing one before what it encloses.

    ``begin``, ``end``: CLOCK_MONOTONIC in ns of the whole. ``lost``: records that came too fast to be copied.
    """

    begin: int
    end: int
    records: dict[str, list[Record]] = field(default_factory=dict)
    lost: int = 0

    def of(self, *codes: int) -> list[Record]:
        """All records with one of ``codes``, in order of begin."""
        roles = {EVENTS[code].role for code in codes}
        return [record for role in roles for record in self.records[role] if record.code in codes]


def buffers_of_stack(stack: Stack) -> Buffers:
    """The trace buffers of a stack that this process owns."""
    return {role: PageReader(fd, TRACE_BYTES) for role, fd in stack.trace_fds().items()}


@contextlib.contextmanager
def buffers_of_process(pid: int, fds: Mapping[str, int]) -> Iterator[Buffers]:
    """The trace buffers that process ``pid`` has open as ``fds``; StackError if it has ended."""
    with contextlib.ExitStack() as opened:
        buffers = {}
        try:
            for role, number in fds.items():
                fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, fd)
                buffers[role] = PageReader(fd, TRACE_BYTES)
        except OSError as error:
            raise StackError(f"the stack's trace buffers cannot be opened: {error.strerror}") from None
        yield buffers


def collect(buffers: Buffers, switch: Switch, load: Callable[[Callable[[], None]], None]) -> Trace:
    """Traces while ``load(drain)`` runs, which calls ``drain`` often; ``switch(1)`` before, ``switch(0)`` after."""
    readers = {role: TraceReader(buffer) for role, buffer in buffers.items()}

    def drain() -> None:
        for reader in readers.values():
            reader.drain()

    switch(1)
    begin = time.monotonic_ns()
    try:
        load(drain)
    finally:
        end = time.monotonic_ns()
        switch(0)
    for reader in readers.values():
        reader.drain(last=True)
    return _sorted(Trace(begin, end), readers)


def waiting(seconds: float) -> Callable[[Callable[[], None]], None]:
    """A load for ``collect`` that only lets time pass."""

    def load(drain: Callable[[], None]) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _DRAIN_SECONDS))
            drain()

    return load


def record_stack(stack: Stack, seconds: float) -> Trace:
    """A trace of the next ``seconds`` of a stack that this process owns."""

    def switch(on: float) -> None:
        switch_tracing(stack, on and seconds)

    return collect(buffers_of_stack(stack), switch, waiting(seconds))


def _sorted(trace: Trace, readers: Mapping[str, TraceReader]) -> Trace:
    trace.records = {role: [] for role in ROLES}
    for reader in readers.values():
        for record in reader.records():
            event = EVENTS.get(record.code)
            if event is not None and trace.begin <= record.begin and record.end <= trace.end:
                trace.records[event.role].append(record)
        trace.lost += reader.lost
    for records in trace.records.values():
        records.sort(key=lambda record: (record.begin, -record.end))
    return trace
