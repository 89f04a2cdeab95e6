"""The two guests that are compared: one image, one QEMU, one kind of network; only the network card differs.

``ours`` is a stack whose Lance is reached over vfio-user. ``own`` has QEMU's pcnet in its place, on the TAP at which
vmapp would be.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from lab import qemu
from lab.bench.guests import stock_guest
from lab.bench.qemuload import Guest
from lab.bench.testbed import Testbed, testbed
from lab.child import Child, reap, spawn_program
from lab.guestconsole import connected
from lab.load.place import Place
from lab.terminal import Nowhere
from machine.config import Settings
from machine.errors import GuestError
from machine.process import NOBODY
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import build

__all__ = ["TRACE_FILE", "ours", "own", "with_own_card"]

TRACE_FILE: Final = "accesses"  # in the guest's folder, with ``traced``
_EVENTS: Final = ("pcnet_ioport_read", "pcnet_ioport_write")  # QEMU's trace points, one a port access
_START_SECONDS: Final = 10.0
_END_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.02


@contextmanager
def ours(settings: Settings) -> Iterator[tuple[Testbed, Guest]]:
    """A stack with a stock guest, up and set up."""
    with testbed(settings) as bed, stock_guest(bed) as guest:
        assert guest is not None
        yield bed, guest


@contextmanager
def own(settings: Settings, *, traced: bool = False) -> Iterator[tuple[Path, Guest]]:
    """The same guest with QEMU's own pcnet, and its folder. ``traced``: QEMU writes a line for each port access."""
    plan = NetworkPlan(f"bench-{os.getpid()}-own")
    with ExitStack() as undo:
        network = undo.enter_context(build(plan, parse_rate(settings.link)))
        folder = Path(tempfile.mkdtemp(prefix="worldswitch-"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        os.chown(folder, NOBODY, NOBODY)
        words = with_own_card(qemu.command(settings, plan, ()), network.host_tap, plan)
        if traced:
            words += [*(word for event in _EVENTS for word in ("-trace", event)), "-D", TRACE_FILE]
        child = spawn_program("guest", words, (network.host_tap,), folder, settings.cpus, Nowhere())
        undo.callback(reap, [child], _END_SECONDS)
        network.close_taps()
        channel = folder / qemu.CHANNEL
        _await(channel, child)
        console = undo.enter_context(connected(channel))
        yield folder, Guest(console, plan.guest.address, Place.of(plan.peer), (child.process.pid,))


def with_own_card(words: tuple[str, ...], tap: int, plan: NetworkPlan) -> list[str]:
    """The words of a QEMU with its own card in place of ours; ``tap``: a descriptor that it inherits."""
    at = words.index("-device")
    card = ["-netdev", f"tap,id=wire,fd={tap}", "-device", f"pcnet,netdev=wire,mac={plan.guest.mac},romfile="]
    return [*words[:at], *card, *words[at + 2 :]]


def _await(channel: Path, child: Child) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not channel.exists():
        if child.process.poll() is not None:
            raise GuestError(f"QEMU ended with status {child.process.returncode} before its guest ran")
        if time.monotonic() > deadline:
            raise GuestError(f"QEMU did not start within {_START_SECONDS:g} s")
        time.sleep(_RETRY_SECONDS)
