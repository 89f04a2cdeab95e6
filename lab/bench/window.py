"""What machine A does in the midst of a transfer: its idle time and its counters.

The programs that make the traffic take CPU time to start and to end, on the very CPU that is being measured, and on a
busy machine nobody knows for how long. So a window opens when bytes flow, as the peer's interface counts them, and the
warm-up is over; it closes before the transfer does. What was counted meanwhile is held against each other.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lab import readings
from lab.bench import validity
from lab.bench.machines import Configuration, Machines
from lab.bench.rounds import Effort
from lab.load.cpu import CpuUse
from lab.load.disturbance import Attended, Conditions, attended
from machine.errors import BenchError, WorldswitchError
from netbackend import namespaces

__all__ = [
    "FLOWING_BYTES",
    "TAIL_SECONDS",
    "Flow",
    "Observed",
    "Reading",
    "Window",
    "between",
    "flow",
    "idle_share",
    "measured_pids",
    "observed",
    "reading",
    "received_and_sent",
    "watching",
]

TAIL_SECONDS: Final = 0.5
"""A transfer must last that much longer than warm-up and window."""

FLOWING_BYTES: Final = 10_000
"""From there on bytes flow: more than ARP and a TCP handshake."""

_POLL_SECONDS: Final = 0.02
_NET_DEV: Final = "/proc/thread-self/net/dev"
_NET_DEV_LIMIT: Final = 16384


@dataclass(frozen=True, slots=True)
class Observed:
    """One window: its length, the idle share of machine A's CPUs (0 to 1), and counters that grew (no stack: {}).

    ``carried``: bytes that the peer's interface received and sent meanwhile, None if nobody looked. ``use``: where
    the CPUs' time went; ``conditions``: who else had a part of it.
    """

    seconds: float
    idle_share: float
    counters: dict[str, int]
    carried: validity.Carried | None = None
    use: CpuUse | None = None
    conditions: Conditions | None = None

    def faults(self, goodput_mbps: float | None = None) -> tuple[str, ...]:
        """What contradicts it (``lab.bench.validity``); ``goodput_mbps``: what the load says."""
        return tuple(self._faults(goodput_mbps))

    def _faults(self, goodput_mbps: float | None) -> Iterator[str]:
        if self.counters:
            yield from validity.of_frames(self.counters)
            yield from validity.of_counters(self.counters)
        if self.carried is not None:
            if self.counters:
                yield from validity.of_wire(self.counters, self.carried)
            if goodput_mbps is not None:
                yield from validity.of_load(self.carried, self.seconds, goodput_mbps)
        if self.use is not None:
            yield from validity.of_ticks(self.use)
            yield from validity.of_cpus(self.use)

    @property
    def notes(self) -> dict[str, validity.Note]:
        """For each sample that comes of it."""
        return {} if self.conditions is None else dict(self.conditions.as_fields())


@dataclass(slots=True)
class Window:
    """Where the result appears. ``error``: what kept it from appearing."""

    observed: Observed | None = None
    error: WorldswitchError | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def result(self) -> Observed:
        """BenchError if the transfer was over before the window was."""
        if self.error is not None:
            raise self.error
        if self.observed is None:
            raise BenchError("the traffic ended before it could be measured; measure for longer (--seconds)")
        return self.observed


class Flow:
    """Bytes through an interface of another namespace: ``fd`` is /proc/net/dev as it is there."""

    def __init__(self, fd: int, interface: str) -> None:
        self._fd = fd
        self._interface = interface

    def total(self) -> int:
        """Received and sent so far."""
        return sum(received_and_sent(os.pread(self._fd, _NET_DEV_LIMIT, 0).decode(), self._interface))

    def begins(self, over: threading.Event, enough: int = FLOWING_BYTES, seconds: float | None = None) -> bool:
        """Waits until ``enough`` bytes have come; False if the traffic is over first, or that takes too long."""
        first = self.total()
        deadline = None if seconds is None else time.monotonic() + seconds
        while not over.wait(_POLL_SECONDS):
            if self.total() - first >= enough:
                return True
            if deadline is not None and time.monotonic() > deadline:
                return False
        return False


@contextmanager
def flow(machines: Machines, configuration: Configuration) -> Iterator[Flow]:
    """The flow through the peer's interface, whichever way it goes."""
    peer = machines.plan(configuration).peer
    fd = namespaces.run(peer.namespace, lambda: os.open(_NET_DEV, os.O_RDONLY | os.O_CLOEXEC))
    try:
        yield Flow(fd, peer.interface)
    finally:
        os.close(fd)


@contextmanager
def observed(machines: Machines, configuration: Configuration, effort: Effort) -> Iterator[Window]:
    """Observes machine A while the block makes traffic; the result is there when the block has ended."""
    window = Window()
    with flow(machines, configuration) as wire:
        watcher = threading.Thread(target=_watch, args=(window, machines, configuration, effort, wire))
        watcher.start()
        try:
            yield window
        finally:
            window.over.set()
            watcher.join()


def _watch(window: Window, machines: Machines, configuration: Configuration, effort: Effort, wire: Flow) -> None:
    over = window.over
    if not wire.begins(over) or over.wait(effort.warm_up):
        return
    try:
        begin = reading(machines, configuration, wire)
        with watching(machines) as seen:
            cut_short = over.wait(effort.seconds)
        end = reading(machines, configuration, wire)
    except WorldswitchError as error:
        window.error = error
        return
    if not cut_short:
        window.observed = between(begin, end, seen)


class Reading(NamedTuple):
    """Counters (no stack: {}), and the peer's interface read just before and just after them."""

    before: int
    counters: dict[str, int]
    after: int


def reading(machines: Machines, configuration: Configuration, wire: Flow) -> Reading:
    """All of that now."""
    before = wire.total()
    return Reading(before, _counters(machines, configuration), wire.total())


def between(begin: Reading, end: Reading, seen: Attended) -> Observed:
    """What was observed from one reading to the other."""
    return Observed(
        seconds=seen.use.seconds,
        idle_share=idle_share(seen.use),
        counters=readings.grown(begin.counters, end.counters),
        carried=validity.Carried(end.before - begin.after, end.after - begin.before),
        use=seen.use,
        conditions=seen.conditions,
    )


@contextmanager
def watching(machines: Machines) -> Iterator[Attended]:
    """Where the time of machine A's CPUs goes during the block, and who else has a part of it."""
    with attended(machines.cpus, measured_pids(machines)) as seen:
        yield seen


def measured_pids(machines: Machines) -> Sequence[int]:
    """The stack's processes. A guest of QEMU's is one of them."""
    return tuple(machines.bed.stack.pids.values())


def received_and_sent(text: str, interface: str) -> tuple[int, int]:
    """Bytes an interface has received and sent, from the text of /proc/net/dev (proc(5)); zeros if it isn't there."""
    for line in text.splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() == interface:
            fields = numbers.split()
            return int(fields[0]), int(fields[8])
    return 0, 0


def idle_share(use: CpuUse) -> float:
    """Mean idle share of the CPUs that were watched."""
    return sum(cpu.idle for cpu in use.cpus.values()) / len(use.cpus)


def _counters(machines: Machines, configuration: Configuration) -> dict[str, int]:
    """All counters, and "at_ns", the moment; empty where the stack has no part in the traffic."""
    if not configuration.virtual:
        return {}
    return machines.counters() | {"at_ns": time.monotonic_ns()}
