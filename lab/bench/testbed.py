"""A stack for one measurement: network, processes, and all of it gone afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from lab.stack import Stack
from machine.config import Settings
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import build

__all__ = ["testbed"]


@contextlib.contextmanager
def testbed(settings: Settings) -> Iterator[Stack]:
    """A running stack of these settings under a name of its own, ended when the block ends."""
    settings = dataclasses.replace(settings, name=f"bench-{os.getpid()}")
    plan = NetworkPlan(settings.name)
    with build(plan, parse_rate(settings.link)) as network:
        mac = bytes.fromhex(plan.guest.mac.replace(":", ""))
        with Stack(settings, network.guest_tap, network.host_tap, mac) as stack:
            yield stack
