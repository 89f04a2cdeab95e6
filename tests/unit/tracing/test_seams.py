"""Trace points: they record while they are in, and leave the objects as they were when they are out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from guest.cpu import Cpu
from machine import trace
from machine.errors import ConfigError
from machine.livecontrol import LiveControl
from machine.seams import Tracer, override
from machine.shm import PageReader, attach, create
from machine.trace import TRACE_BYTES, Note, Record, TraceReader
from tests.kit.board import RDP, Board, RawGuest

HOUR_NS = 3600 * 10**9


class Thing:
    """Has slots, as the processes' hot classes do."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def work(self) -> int:
        self.calls += 1
        return self.calls


def traced_thing(note: Note) -> type[Thing]:
    """Its trace point."""

    class TracedThing(Thing):
        __slots__ = ()

        def work(self) -> int:
            result = Thing.work(self)
            note(1, time.monotonic_ns(), trace.TRAP, result)
            return result

    return TracedThing


@contextmanager
def buffer() -> Iterator[int]:
    """The descriptor of a trace buffer."""
    fd = create("test", TRACE_BYTES)
    try:
        yield fd
    finally:
        os.close(fd)


def records(fd: int) -> list[Record]:
    """Everything that was ever written."""
    words = attach(fd, TRACE_BYTES).cast("Q")
    claimed, words[0] = words[0], 0
    reader = TraceReader(PageReader(fd, TRACE_BYTES))
    words[0] = claimed
    reader.drain(last=True)
    return list(reader.records())


def test_on_and_off_leave_the_object_as_it_was() -> None:
    """Its class, its attributes and its behaviour are the same before and after; in between it records."""
    thing = Thing()
    with buffer() as fd:
        changes = []
        tracer = Tracer(fd, lambda note: [override(thing, traced_thing(note))], lambda: changes.append(1))
        assert thing.work() == 1
        tracer.switch(time.monotonic_ns() + HOUR_NS // 2)
        assert type(thing) is not Thing
        assert thing.work() == 2
        tracer.switch(0)
        assert type(thing) is Thing
        assert thing.work() == 3
        assert [record.argument for record in records(fd)] == [2]
        assert len(changes) == 2


def test_tracing_ends_by_itself() -> None:
    """When whoever asked for it is gone, the lease runs out and the trace points remove themselves."""
    thing = Thing()
    with buffer() as fd:
        tracer = Tracer(fd, lambda note: [override(thing, traced_thing(note))])
        tracer.switch(time.monotonic_ns() + 1)
        time.sleep(0.001)
        thing.work()
        assert type(thing) is Thing


def test_switching_twice_is_harmless() -> None:
    """On twice is on, off twice is off, off before on is nothing."""
    thing = Thing()
    with buffer() as fd:
        tracer = Tracer(fd, lambda note: [override(thing, traced_thing(note))])
        tracer.switch(0)
        for _ in range(2):
            tracer.switch(time.monotonic_ns() + HOUR_NS // 2)
            thing.work()
        for _ in range(2):
            tracer.switch(0)
            thing.work()
        assert type(thing) is Thing
        assert len(records(fd)) == 2


@pytest.mark.parametrize("until", ["soon", None, 1.5, 1 << 62])
def test_an_odd_end_is_refused(until: object) -> None:
    """A control message with nonsense in it changes nothing."""
    with pytest.raises(ConfigError, match="end of a trace"):
        Tracer(None, lambda _note: []).switch(until)


def test_a_process_without_a_buffer_refuses() -> None:
    """No buffer, no tracing, one line."""
    with pytest.raises(ConfigError, match="no trace buffer"):
        Tracer(None, lambda _note: []).switch(time.monotonic_ns() + HOUR_NS // 2)


def test_a_class_that_is_not_a_subclass_is_refused() -> None:
    """A seam exchanges a class for one that only adds recording."""
    with pytest.raises(ConfigError, match="does not trace"):
        override(Thing(), Cpu)


@contextmanager
def traced_board(**settings: object) -> Iterator[tuple[Board, dict[str, int]]]:
    """A virtual PC whose vmm and vmapp have trace buffers, and take {"trace": until} as control messages."""
    fds = {role: create("test", TRACE_BYTES) for role in ("vmm", "vmapp")}
    stations = {}

    class TracedBoard(Board):
        def station(self, role: str):
            station = Board.station(self, role)
            if role in fds:
                station.fds["trace"] = fds[role]
            stations[role] = station
            return station

    try:
        with TracedBoard(**settings) as board:
            board.live = {role: LiveControl(station.control, station.live) for role, station in stations.items()}
            yield board, fds
    finally:
        for fd in fds.values():
            os.close(fd)


def switch(board: Board, role: str, until: int) -> dict[str, object] | None:
    """As the supervisor does it; the process's answer."""
    board.controls[role].send({"trace": until})
    board.live[role].apply_waiting()
    return board.controls[role].receive(1.0)


def test_a_trap_is_recorded_from_vmm_to_vmapp() -> None:
    """In version 2.0 a data-port access leaves its trap, its switch and the host world, and vmapp's emulation of it."""
    with traced_board(mode="2.0") as (board, fds):
        guest = RawGuest(board)
        guest.map_lance()
        guest.read(RDP, 2)
        until = time.monotonic_ns() + HOUR_NS // 2
        assert [switch(board, role, until) for role in fds] == [{"event": "set"}] * 2
        guest.read(RDP, 2)
        assert [switch(board, role, 0) for role in fds] == [{"event": "set"}] * 2
        guest.read(RDP, 2)
        assert [r.code for r in records(fds["vmm"])] == [trace.HOST_WORLD, trace.SWITCH, trace.VMM_TRAP]
        assert [r.code for r in records(fds["vmapp"])] == [trace.ACCESS, trace.SELECT]
        host, there, trap = records(fds["vmm"])
        assert trap.begin <= there.begin <= host.begin <= host.end <= there.end <= trap.end
        assert trap.argument & 0xFFFFFFFF == 1 | 2 << 8 | RDP << 16


def test_optimised_accesses_stay_in_the_vmm() -> None:
    """With ``ports`` the same access is a trap alone."""
    with traced_board(mode="optimised") as (board, fds):
        guest = RawGuest(board)
        guest.map_lance()
        switch(board, "vmm", time.monotonic_ns() + HOUR_NS // 2)
        guest.read(RDP, 2)
        assert [r.code for r in records(fds["vmm"])] == [trace.VMM_TRAP]
