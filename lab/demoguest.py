"""``worldswitch demo --guest qemu``: Linux with its own driver on our network card, booted, used and tested.

Boots the stock guest over vfio-user, then in two modes: pings, iperf3 both ways, and the driver's own test of the chip,
each with what the monitor counted meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Final

from lab import preflight
from lab.bench.machines import MODE_CONFIGURATIONS
from lab.bench.qemuguests import ours
from lab.bench.qemuload import Guest, round_trips, transfer
from lab.bench.rounds import Effort
from lab.bench.tables import table
from lab.bench.testbed import Testbed
from lab.guestimage import find_image
from lab.status import measure
from lab.textlayout import prose, wrapped
from machine.config import make_settings

__all__ = ["run"]

_MODES: Final = ("2.0", "optimised")
_SELF_TEST: Final = "ethtool -t eth0 offline"
_SELF_TEST_SECONDS: Final = 30.0
_PASSED: Final = "PASS"
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
    _step(f"booting {image.kernel} under {image.qemu[0]}; its only network card is our vmm, behind a vfio-user socket")
    began = time.monotonic()
    rows: list[list[str]] = []
    with ours(settings) as (bed, guest):
        _step(f"up after {time.monotonic() - began:.1f} s. What its kernel, {_kernel(guest)}, says of the card:")
        for line in guest.console.check("dmesg | grep -E 'pcnet32|eth0'").splitlines():
            print(wrapped(line, hanging="    "))
        for mode in _MODES:
            bed.change(**MODE_CONFIGURATIONS[mode].changes)
            rows += _tour(bed, guest, mode, effort)
        _step("removing everything")
    print(f"\n{table(_HEADER, rows, keys=2)}\n")
    print(prose(f"Profile {settings.profile}, link {settings.link}. {_LEGEND}"))
    return 0


def _kernel(guest: Guest) -> str:
    return guest.console.check("uname -sr").strip()


def _tour(bed: Testbed, guest: Guest, mode: str, effort: Effort) -> list[list[str]]:
    """One row for each thing that is done in this mode."""

    def pings() -> str:
        return f"{round_trips(guest, effort)['rtt_p50_ms']:.2f} ms"

    def carried(direction: str) -> str:
        return f"{transfer(guest, direction, effort)['goodput_mbps']:.1f} Mb/s"

    works: dict[str, Callable[[], str]] = {
        "ping, round trip": pings,
        "iperf3, it sends": lambda: carried("transmit"),
        "iperf3, it receives": lambda: carried("receive"),
        _SELF_TEST: lambda: _self_test(guest),
    }
    rows = []
    for label, work in works.items():
        _step(f"mode {mode}: {label}")
        before = _counters(bed)
        result = work()
        rows.append([label, mode, result, *_cost(before, _counters(bed))])
    return rows


def _self_test(guest: Guest) -> str:
    output = guest.console.check(_SELF_TEST, _SELF_TEST_SECONDS)
    return _PASSED if _PASSED in output else "FAIL"


def _counters(bed: Testbed) -> dict[str, Any]:
    counters: dict[str, Any] = measure(bed.stack)["counters"]
    return counters


def _cost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    grown = {name: after[name] - value for name, value in before.items()}
    frames = grown["tx_frames"] + grown["rx_frames"]
    found = [str(frames)]
    for count in (grown["io_in"] + grown["io_out"], grown["world_switches"]):
        found += [str(count), f"{count / max(1, frames):.2f}"]
    return found


def _step(text: str) -> None:
    print(wrapped(f"==> {text}", hanging="    "), flush=True)
