"""A machine for one measurement: network, processes, and all of it gone afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from typing import Any

from lab.complaint import complain
from lab.stack import Stack
from lab.stops import Interruption, StopRequests
from lab.supervisor import Supervisor
from machine.config import Settings
from machine.errors import StartInterruptedError, WorldswitchError
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
    undo = contextlib.ExitStack()
    try:
        with _postponed() as stops:
            supervisor = Supervisor(settings, stops, complain)
            stack = undo.enter_context(supervisor.held())
        yield Testbed(settings, supervisor.plan, supervisor.network, stack)
    except BaseException as error:
        with _postponed():
            try:
                undo.__exit__(type(error), error, error.__traceback__)
            except WorldswitchError as second:  # the first is the one to tell
                if second is not error:
                    complain(second)
        raise
    with _postponed():
        try:
            undo.close()
        except WorldswitchError as error:  # no reason to give up what has been measured, all of it
            complain(f"{error}: what was measured is complete, but run `worldswitch down --name {settings.name}`")


@contextlib.contextmanager
def _postponed() -> Iterator[StopRequests]:
    """A signal within the block, which makes or removes things, takes effect at its end, unless somebody looks."""
    with StopRequests() as stops:
        try:
            yield stops
        except StartInterruptedError:
            raise Interruption(stops.signal_number) from None
    if stops.signal_number:
        signal.raise_signal(stops.signal_number)
