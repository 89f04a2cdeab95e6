"""What is compared with what: each configuration, and the two machines a load runs on in it.

Machine A is the guest, the native machine, or a guest behind a bare path; it has the stack's CPUs. Machine B is the
peer at the other end of the wire; it has the other CPUs, or the same if there are no others.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import MappingProxyType
from typing import Any, Final

import psutil

from lab.bench.qemuload import Guest
from lab.bench.testbed import Testbed
from lab.load.place import Place
from lab.load.relay import relay
from lab.load.vde import vde
from lab.status import measure
from machine.config import MODES, OPTIMISATIONS
from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import Network, Record, build

__all__ = [
    "MODE_CONFIGURATIONS",
    "NATIVE",
    "RELAY",
    "VDE",
    "Configuration",
    "Machines",
    "bare_network",
    "inhabitants",
    "mode",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """A column of a comparison. ``kind``: "virtual", "native", or a bare path, "relay" or "vde".

    ``changes``: live settings that make it; of another kind than virtual, the state in which the stack stands by.
    """

    name: str
    kind: str
    changes: Mapping[str, Any]

    @property
    def virtual(self) -> bool:
        """Whether traffic goes through the virtual NIC."""
        return self.kind == "virtual"

    @property
    def bare(self) -> bool:
        """Whether it goes through the same TAPs, but no virtual NIC."""
        return self.kind in ("relay", "vde")


def mode(name: str, called: str | None = None, **changes: Any) -> Configuration:
    """The stack in mode ``name``; ``changes`` switch single things otherwise."""
    everything = dict.fromkeys(OPTIMISATIONS) | {"mode": name, "hlt": "host"} | changes
    return Configuration(called or name, "virtual", MappingProxyType(everything))


_STANDING_BY: Final = mode("optimised").changes
MODE_CONFIGURATIONS: Final = MappingProxyType({name: mode(name) for name in MODES})
NATIVE: Final = Configuration("native", "native", _STANDING_BY)
RELAY: Final = Configuration("relay", "relay", _STANDING_BY)
VDE: Final = Configuration("vde", "vde", _STANDING_BY)


class Machines:
    """The two machines of a testbed. ``bare``: a network without a stack, for the bare paths.

    ``guest``: what asks the guest, if that is a stock one; None: programs run in its namespace.
    """

    def __init__(self, bed: Testbed, bare: Network | None = None, guest: Guest | None = None) -> None:
        self.bed = bed
        self.guest = guest
        self.cpus = tuple(sorted(set(bed.settings.cpus)))
        self.peer_cpus = tuple(sorted(os.sched_getaffinity(0) - set(self.cpus))) or self.cpus
        self._bare = bare

    @contextmanager
    def standing(self, configuration: Configuration) -> Iterator[tuple[Place, Place]]:
        """Machines A and B in that configuration, while the block runs; no place is within a stock guest."""
        self.bed.change(**configuration.changes)
        with self._path(configuration):
            plan = self.plan(configuration)
            near = plan.native if configuration.kind == "native" else plan.guest
            yield Place.of(near, self.cpus), Place.of(plan.peer, self.peer_cpus)

    def counters(self) -> dict[str, int]:
        """Every counter of the stack, derived ones too."""
        found: dict[str, int] = measure(self.bed.stack)["counters"]
        return found

    def wire(self, configuration: Configuration) -> Record:
        """The record of the network whose wire the traffic crosses."""
        return self.bed.network.record if self._bare is None or not configuration.bare else self._bare.record

    def plan(self, configuration: Configuration) -> NetworkPlan:
        """That network's plan."""
        return self.bed.plan if self._bare is None or not configuration.bare else self._bare.plan

    def _path(self, configuration: Configuration) -> AbstractContextManager[object]:
        if not configuration.bare:
            return nullcontext()
        assert self._bare is not None
        if configuration.kind == "vde":
            return vde(self._bare, self.cpus)
        return relay(self._bare.guest_tap, self._bare.host_tap, self.cpus)


def bare_network(link: str) -> Network:
    """A network like a testbed's, with nobody at its TAPs; a context manager."""
    return build(NetworkPlan(f"bench-{os.getpid()}-bare"), parse_rate(link))


def inhabitants(namespace: str) -> Iterator[int]:
    """Children of this process that live in the network namespace: the programs of a load on one machine."""
    identity = namespaces.identity(namespace)
    for child in psutil.Process().children():
        with suppress(OSError):
            status = os.stat(f"/proc/{child.pid}/ns/net")
            if (status.st_dev, status.st_ino) == identity:
                yield child.pid
