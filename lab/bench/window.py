"""What machine A does in the midst of a transfer: its idle time and its counters.

The programs that make the traffic take CPU time to start and to end, on the very CPU that is being measured. So the
window opens when bytes flow and the warm-up is over, and closes before the transfer does.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from lab.bench.machines import Configuration, Machines
from lab.bench.rounds import Effort
from lab.load.cpu import CpuUse, watched
from machine.errors import BenchError, WorldswitchError
from netbackend import namespaces
from netbackend.plan import Station

__all__ = ["TAIL_SECONDS", "Observed", "Window", "idle_share", "observed", "received_and_sent"]

TAIL_SECONDS: Final = 0.5  # a transfer must last that much longer than warm-up and window
_POLL_SECONDS: Final = 0.02
_FLOWING_BYTES: Final = 10_000  # more than ARP and a TCP handshake
_NET_DEV: Final = "/proc/thread-self/net/dev"
_NET_DEV_LIMIT: Final = 16384


@dataclass(frozen=True, slots=True)
class Observed:
    """One window: its length, the idle share of machine A's CPUs (0 to 1), and counters that grew (no stack: {})."""

    seconds: float
    idle_share: float
    counters: dict[str, int]


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


@contextmanager
def observed(machines: Machines, configuration: Configuration, effort: Effort) -> Iterator[Window]:
    """Observes machine A while the block makes traffic; the result is there when the block has ended."""
    window = Window()
    peer = machines.plan(configuration).peer
    fd = namespaces.run(peer.namespace, lambda: os.open(_NET_DEV, os.O_RDONLY | os.O_CLOEXEC))
    watcher = threading.Thread(target=_watch, args=(window, machines, configuration, effort, fd, peer))
    watcher.start()
    try:
        yield window
    finally:
        window.over.set()
        watcher.join()
        os.close(fd)


def _watch(
    window: Window, machines: Machines, configuration: Configuration, effort: Effort, fd: int, peer: Station
) -> None:
    over = window.over
    if not _flows(over, fd, peer.interface) or over.wait(effort.warm_up):
        return
    try:
        before = _counters(machines, configuration)
        with watched(machines.cpus) as use:
            cut_short = over.wait(effort.seconds)
        after = _counters(machines, configuration)
    except WorldswitchError as error:
        window.error = error
        return
    if not cut_short:
        grown = {name: after[name] - value for name, value in before.items()}
        window.observed = Observed(use.seconds, idle_share(use), grown)


def _flows(over: threading.Event, fd: int, interface: str) -> bool:
    """Waits until bytes flow; False if the traffic is over first."""
    first = _total(fd, interface)
    while not over.wait(_POLL_SECONDS):
        if _total(fd, interface) - first > _FLOWING_BYTES:
            return True
    return False


def _total(fd: int, interface: str) -> int:
    return sum(received_and_sent(os.pread(fd, _NET_DEV_LIMIT, 0).decode(), interface))


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
