"""A running stack for a test: network, processes, what they have counted, and programs on its machines."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psutil

from lab.stack import Stack
from machine.config import Settings, make_settings
from machine.counters import read_all
from machine.layout import PORT_SLOTS, PORT_TABLE, PORT_WORDS
from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import Network, build

__all__ = ["Bed", "Cost", "cpu_seconds", "eventually", "running"]

_QUIET_S: Final = 0.06  # longer than any timer of a stack that has nothing to do, but for the chip's own poll
_SETTLE_S: Final = 5.0
_NEVER_QUIET: Final = frozenset({"selects", "tx_polls", "select_ns", "host_world_ns", "idle_ns", "switches_for_tick"})


@dataclasses.dataclass
class Cost:
    """What happened between two moments: counters that grew; port -> (reads, writes) where not both are 0."""

    counters: dict[str, int] = dataclasses.field(default_factory=dict)
    ports: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def accesses(self, first: int, count: int) -> int:
        """Accesses, both ways, to the ports [first, first + count)."""
        return sum(sum(pair) for port, pair in self.ports.items() if first <= port < first + count)


@dataclasses.dataclass
class Bed:
    """A stack that runs, in its network."""

    stack: Stack
    network: Network

    @property
    def plan(self) -> NetworkPlan:
        return self.network.plan

    @property
    def processes(self) -> dict[str, psutil.Process]:
        """The three processes by role."""
        return {role: psutil.Process(pid) for role, pid in self.stack.pids.items()}

    def counters(self) -> dict[str, int]:
        """Every counter, now."""
        return dict(read_all(self.stack.counters))

    def ports(self) -> dict[int, tuple[int, int]]:
        """Port -> (reads, writes) since the start, of every port that was ever accessed."""
        page = self.stack.counters["vmm"]
        entries = range(PORT_TABLE, PORT_TABLE + PORT_SLOTS * PORT_WORDS, PORT_WORDS)
        return {page[at] - 1: (page[at + 1], page[at + 2]) for at in entries if page[at]}

    def settle(self) -> None:
        """Returns when nothing has happened for a while; fails if it never ends."""
        deadline = time.monotonic() + _SETTLE_S
        last, since = self._activity(), time.monotonic()
        while time.monotonic() - since < _QUIET_S:
            assert time.monotonic() < deadline, "the stack does not come to rest"
            time.sleep(0.01)
            now = self._activity()
            if now != last:
                last, since = now, time.monotonic()

    def _activity(self) -> dict[str, int]:
        return {name: value for name, value in self.counters().items() if name not in _NEVER_QUIET}

    @contextmanager
    def measured(self) -> Iterator[Cost]:
        """The cost of what the block does, from rest to rest; filled in when the block has ended."""
        cost = Cost()
        self.settle()
        counters, ports = self.counters(), self.ports()
        yield cost
        self.settle()
        cost.counters = {name: value - counters[name] for name, value in self.counters().items()}
        for port, (reads, writes) in self.ports().items():
            reads_before, writes_before = ports.get(port, (0, 0))
            if (reads, writes) != (reads_before, writes_before):
                cost.ports[port] = reads - reads_before, writes - writes_before

    @contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """The process is not scheduled while the block runs (SIGSTOP, SIGCONT)."""
        pidfd = self.stack.pidfds[role]
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        try:
            yield
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)

    def spawn(self, role: str, *command: str, cpus: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        """Starts a program on the machine ``role`` ("guest", "peer", ...), its output captured."""

        def start() -> subprocess.Popen[str]:
            if cpus:
                os.sched_setaffinity(0, cpus)  # this thread's alone, and what it starts
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )

        return namespaces.run(self.plan.stations[role].namespace, start)

    def call(self, role: str, *command: str, seconds: float = 20.0, cpus: tuple[int, ...] = ()) -> str:
        """What a program on ``role`` prints; fails unless it ends well within ``seconds``."""
        with self.spawn(role, *command, cpus=cpus) as process:
            try:
                output, errors = process.communicate(timeout=seconds)
            finally:
                process.kill()
        assert process.returncode == 0, f"{command}: status {process.returncode}: {errors or output}"
        return output

    def alive(self) -> None:
        """Fails if one of the processes has ended."""
        assert self.stack.died() is None


@contextmanager
def running(kind: Callable[..., Stack] = Stack, **settings: object) -> Iterator[Bed]:
    """A stack of these settings (``machine.config``), gone when the block ends. ``kind`` makes the Stack."""
    made: Settings = make_settings({"name": f"t-{secrets.token_hex(4)}", "link": "none"}, settings)
    plan = NetworkPlan(made.name)
    with build(plan, parse_rate(made.link)) as network:
        mac = bytes.fromhex(plan.guest.mac.replace(":", ""))
        with kind(made, network.guest_tap, network.host_tap, mac) as stack:
            yield Bed(stack, network)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that the process has had, to the nanosecond (/proc/PID/schedstat), unlike its ticks."""
    with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether ``condition()`` becomes true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
