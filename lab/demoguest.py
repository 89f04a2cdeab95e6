"""``worldswitch demo --guest qemu``: Linux with its own driver on our network card, booted, used and tested.

Boots the stock guest over vfio-user, then in two modes: pings, iperf3 both ways, and the driver's own test of the chip,
each with what the monitor counted meanwhile. Pings that are lost are shown; what fails is told, and the rest goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Final

from lab import preflight
from lab.bench.machines import MODE_CONFIGURATIONS
from lab.bench.qemuguests import ours
from lab.bench.qemuload import Guest, pings, transfer
from lab.bench.rounds import Effort
from lab.bench.tables import NOTHING, figure, table, warn
from lab.bench.testbed import Testbed
from lab.demoparts import Parts, step
from lab.guestimage import find_image
from lab.load.disturbance import attended
from lab.readings import frames, grown, median, per_packet, port_accesses
from lab.status import measure
from lab.textlayout import prose, wrapped
from machine.config import make_settings

__all__ = ["run"]

_MODES: Final = ("2.0", "optimised")
_SELF_TEST: Final = "ethtool -t eth0 offline"
_SELF_TEST_SECONDS: Final = 30.0
_PASSED: Final = "PASS"
_FAILED: Final = "failed"
_LEGEND: Final = """\
Frames: both ways. A port access crosses a socket to the vmm, which answers it, or vmapp does after a world switch. An
unmodified driver makes the same accesses in every mode: 2 to send a frame, 14 for an interrupt
(docs/experiments/qemu.md).\
"""
_HEADER: Final = ("in the guest", "mode", "result", "frames", "port accesses", "a frame", "switches", "a frame")


def run(args: argparse.Namespace) -> int:
    """The demonstration with a stock guest; returns the exit status. SetupError if there is no image."""
    preflight.require_program("iperf3", "iperf3")
    preflight.require_program("ping", "iputils-ping")
    image = find_image()
    settings = make_settings({"profile": args.profile or "fast", "link": args.link, "guest": "qemu"})
    effort = Effort(runs=1, seconds=args.seconds, warm_up=0.0)
    step(f"booting {image.kernel} under {image.qemu[0]}; its only network card is our vmm, behind a vfio-user socket")
    began = time.monotonic()
    rows: list[list[str]] = []
    every: list[Parts] = []
    with ours(settings) as (bed, guest):
        step(f"up after {time.monotonic() - began:.1f} s. What its kernel, {_kernel(guest)}, says of the card:")
        for line in guest.console.check("dmesg | grep -E 'pcnet32|eth0'").splitlines():
            print(wrapped(line, hanging="    "))
        for mode in _MODES:
            bed.change(**MODE_CONFIGURATIONS[mode].changes)
            every.append(Parts(f"mode {mode}", bed.stack))
            rows += _tour(bed, guest, mode, effort, every[-1])
        step("removing everything")
    print(f"\n{table(_HEADER, rows, keys=2)}\n")
    print(prose(f"Profile {settings.profile}, link {settings.link}. {_LEGEND}"))
    for parts in every:
        for failure in parts.failures:
            warn(f"{parts.title}: {failure}")
    return 0 if any(parts.worked for parts in every) else 1


def _kernel(guest: Guest) -> str:
    return guest.console.check("uname -sr").strip()


def _tour(bed: Testbed, guest: Guest, mode: str, effort: Effort, parts: Parts) -> list[list[str]]:
    """One row for each thing that is done in this mode; what fails has a row, too."""
    works: dict[str, Callable[[], str]] = {
        "ping, round trip": lambda: _pings(guest, effort),
        "iperf3, it sends": lambda: _carried(guest, "transmit", effort),
        "iperf3, it receives": lambda: _carried(guest, "receive", effort),
        _SELF_TEST: lambda: _self_test(guest),
    }
    rows = []
    for label, work in works.items():
        before = _counters(bed)
        with attended(bed.settings.cpus, tuple(bed.stack.pids.values())) as seen:
            result = parts.do(label, work)
        rows.append([label, mode, result or _FAILED, *_cost(before, _counters(bed))])
        if seen.conditions is not None and seen.conditions.busy:
            parts.failures.append(f"{label}: {seen.conditions.busy}")
    return rows


def _pings(guest: Guest, effort: Effort) -> str:
    """The median, and how many were lost if any were."""
    result = pings(guest, effort)
    lost = f", {result.lost} of {result.sent} lost" if result.lost else ""
    return f"{median(result.rtts_ms):.2f} ms{lost}" if result.rtts_ms else f"all {result.sent} lost"


def _carried(guest: Guest, direction: str, effort: Effort) -> str:
    return f"{transfer(guest, direction, effort)['goodput_mbps']:.1f} Mb/s"


def _self_test(guest: Guest) -> str:
    output = guest.console.check(_SELF_TEST, _SELF_TEST_SECONDS)
    return _PASSED if _PASSED in output else "FAIL"


def _counters(bed: Testbed) -> dict[str, int]:
    counters: dict[str, int] = measure(bed.stack)["counters"]
    return counters


def _cost(before: dict[str, int], after: dict[str, int]) -> list[str]:
    spent = grown(before, after)
    costs = per_packet(spent)
    found = [str(frames(spent))]
    for count, metric in (
        (port_accesses(spent), "port_accesses_per_packet"),
        (spent["world_switches"], "world_switches_per_packet"),
    ):
        found += [str(count), figure(costs[metric], 2) if frames(spent) > 0 else NOTHING]
    return found
