"""A stock guest for a test: started as its user starts it, driven over its command channel, counted from outside."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from lab import client, qemu
from lab.guestconsole import GuestConsole, connected
from lab.load.place import Place
from lab.rundir import RunDirectory
from netbackend import namespaces
from netbackend.plan import NetworkPlan, Station
from tests.kit.cli import up

__all__ = ["Accesses", "StockGuest", "listening", "running"]

RDP, RAP, RESET, BDP = 0x10, 0x12, 0x14, 0x16
"""Offsets of the Lance's registers in 16-bit mode."""

_PORT_MASK: Final = 0x1F  # BAR 0 is 32 ports, aligned
_STATISTICS: Final = "/sys/class/net/eth0/statistics"


@dataclass
class Accesses:
    """Accesses to the Lance between two moments: offset -> (reads, writes), and the frames that went both ways."""

    ports: dict[int, tuple[int, int]] = field(default_factory=dict)
    sent: int = 0
    received: int = 0

    @property
    def total(self) -> int:
        return sum(map(sum, self.ports.values()))

    def reads(self, port: int) -> int:
        return self.ports.get(port, (0, 0))[0]

    def writes(self, port: int) -> int:
        return self.ports.get(port, (0, 0))[1]


@dataclass
class StockGuest:
    """One that runs."""

    name: str
    console: GuestConsole
    plan: NetworkPlan

    @property
    def peer(self) -> Place:
        """The machine at the other end of the wire."""
        return Place.of(self.plan.peer)

    def check(self, command: str, seconds: float = 10.0) -> str:
        """What a command prints in the guest; fails unless it succeeds."""
        return self.console.check(command, seconds)

    def statistic(self, name: str) -> int:
        """One of the kernel's counters of eth0. Reading it takes the driver two port accesses."""
        return int(self.check(f"cat {_STATISTICS}/{name}"))

    def carrier(self, up: bool, seconds: float = 10.0) -> bool:
        """Whether the guest's kernel comes to see the link so; its driver looks every two seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if int(self.check("cat /sys/class/net/eth0/carrier")) == up:
                return True
            time.sleep(0.2)
        return False

    def change(self, **changes: Any) -> None:
        """Changes settings of the running stack, as `worldswitch set` does."""
        client.request(self.name, {"command": "set", "changes": changes})

    @contextmanager
    def counted(self) -> Iterator[Accesses]:
        """The port accesses of what the block does, filled in when it has ended and the chip is quiet."""
        accesses = Accesses()
        before = self._quiet()
        yield accesses
        after = self._quiet()
        for port, (reads, writes) in after.ports.items():
            first = before.ports.get(port, (0, 0))
            if (reads, writes) != first:
                accesses.ports[port] = reads - first[0], writes - first[1]
        accesses.sent = after.sent - before.sent
        accesses.received = after.received - before.received

    def _quiet(self) -> Accesses:
        """What has been counted so far, once nothing more is for a while; the driver's watch on the link may be."""
        last = self._count()
        while True:
            time.sleep(0.15)
            now = self._count()
            if now.total == last.total:
                return now
            last = now

    def _count(self) -> Accesses:
        found = client.request(self.name, {"command": "status"})
        ports: dict[int, tuple[int, int]] = {}
        for name, port in found["ports"].items():
            offset = int(name, 16) & _PORT_MASK
            reads, writes = ports.get(offset, (0, 0))
            ports[offset] = reads + port["reads"], writes + port["writes"]
        return Accesses(ports, found["counters"]["tx_frames"], found["counters"]["rx_frames"])


@contextmanager
def running(*options: str) -> Iterator[StockGuest]:
    """`worldswitch up --guest qemu` with ``options``, and its guest, once that answers; all of it gone afterwards."""
    name = f"g-{os.getpid()}-{secrets.token_hex(2)}"
    with (
        up(name, "--guest", "qemu", *options),
        connected(RunDirectory(name).guest / qemu.CHANNEL) as console,
    ):
        yield StockGuest(name, console, NetworkPlan(name))


def listening(station: Station) -> socket.socket:
    """A TCP socket that listens at a port of the station that was free."""

    def make() -> socket.socket:
        made = socket.create_server((station.address, 0))
        made.settimeout(20)
        return made

    return namespaces.run(station.namespace, make)
