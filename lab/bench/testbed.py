"""A machine for one measurement: network, processes, and all of it gone afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from lab.stack import Stack
from lab.stops import StopRequests
from lab.supervisor import Supervisor
from machine.config import Settings
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import Network, set_link_rate

__all__ = ["Testbed", "testbed"]


@dataclasses.dataclass(slots=True)
class Testbed:
    """A running stack and its network. ``plan`` names the namespaces; ``stack`` has the counters."""

    settings: Settings
    plan: NetworkPlan
    network: Network
    stack: Stack

    def change(self, **changes: Any) -> None:
        """Live settings, as ``worldswitch set`` makes them: mode, ports, combining, notification, hlt, ..."""
        self.settings = dataclasses.replace(self.settings, **changes)
        self.stack.apply(self.settings)

    def set_link(self, rate: str) -> None:
        """Re-shapes the wire, e.g. "100mbit"."""
        set_link_rate(self.network.record, parse_rate(rate))


@contextlib.contextmanager
def testbed(settings: Settings) -> Iterator[Testbed]:
    """A running stack of these settings under a name of its own, ended when the block ends.

    It has a run directory like any other stack, so `worldswitch down --all` finishes what a killed benchmark left.
    """
    settings = dataclasses.replace(settings, name=f"bench-{os.getpid()}")
    with contextlib.ExitStack() as undo:
        with StopRequests() as stops:
            supervisor = Supervisor(settings, stops, print)
            stack = undo.enter_context(supervisor.held())
        yield Testbed(settings, supervisor.plan, supervisor.network, stack)
