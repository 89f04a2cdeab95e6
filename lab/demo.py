"""``worldswitch demo``: one machine, traffic through it and beside it, and what each packet cost.

Starts a stack in namespaces of its own, pings and runs iperf3 from the guest to the peer and back, runs the same
natively over the same bridge and wire, and prints one table. Everything in the table was measured in this run.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Final

from lab import demoguest, preflight
from lab.arguments import whole
from lab.bench.machines import Machines
from lab.bench.samples import median, percentile
from lab.bench.testbed import Testbed, testbed
from lab.load import iperf3
from lab.load.ping import ping
from lab.load.place import Place
from lab.status import switch_times
from lab.textlayout import prose, table, tail_name, wrapped
from machine.config import PROFILES, make_settings
from netbackend.rate import parse_rate

__all__ = ["configure", "run"]

_SECONDS: Final = 4
_MOST_SECONDS: Final = 3600
_PINGS: Final = 20
_PING_INTERVAL: Final = 0.05
_UDP_RATE: Final = 20_000_000
_MODES: Final = ("2.0", "optimised")
_LEGEND: Final = """\
native: the same programs on the same CPUs, bridge and wire, without the virtual machine.

Counts are over all the traffic of a column, acknowledgements included; the paper's 12 port accesses are for a packet
sent alone (`worldswitch bench counts`). A switch is timed from the last instruction in one world to the first in the
other.\
"""


@dataclasses.dataclass(slots=True)
class _Column:
    """What was measured in one configuration: row -> value, as printed."""

    title: str
    cells: dict[str, str] = dataclasses.field(default_factory=dict)


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of the demonstration."""
    parser.add_argument(
        "--guest",
        choices=("builtin", "qemu"),
        default="builtin",
        help="qemu: a stock kernel (scripts/setup-guest makes its image)",
    )
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        help="paper (one CPU, Linux 2.2's driver) or fast; paper, but fast with qemu",
    )
    parser.add_argument("--link", default="100mbit", help="rate of the wire")
    parser.add_argument("--seconds", type=whole(1, _MOST_SECONDS), default=_SECONDS, help="length of each iperf3 run")


def run(args: argparse.Namespace) -> int:
    """The whole demonstration; returns the exit status. ConfigError for a bad --link, before anything is done."""
    parse_rate(args.link)
    preflight.check_machine()
    if args.guest == "qemu":
        return demoguest.run(args)
    preflight.require_program("iperf3", "iperf3")
    preflight.require_program("ping", "iputils-ping")
    settings = make_settings({"profile": args.profile or "paper", "link": args.link})
    _step("starting guest, vmm and vmapp, and a network in namespaces of their own")
    with testbed(settings) as bed:
        machines = Machines(bed)
        places = _places(bed, machines)
        columns = [_Column("native")]
        _traffic(columns[0], places["native"], places["peer"], args.seconds)
        for mode in _MODES:
            bed.change(mode=mode)
            columns.append(_virtual(machines, places, mode, args.seconds))
        pids = ", ".join(f"{role} {pid}" for role, pid in bed.stack.pids.items())
        _step("removing everything")
    _print_table(columns, f"profile {settings.profile}, driver {settings.driver}, link {settings.link}; {pids}")
    return 0


def _places(bed: Testbed, machines: Machines) -> dict[str, Place]:
    return {
        role: Place.of(station, machines.peer_cpus if role == "peer" else machines.cpus)
        for role, station in bed.plan.stations.items()
    }


def _virtual(machines: Machines, places: dict[str, Place], mode: str, seconds: int) -> _Column:
    column = _Column(f"mode {mode}")
    before = machines.counters()
    _traffic(column, places["guest"], places["peer"], seconds)
    after = machines.counters()
    _count(column, {name: after[name] - before[name] for name in after})
    times = switch_times(machines.bed.stack.counters["vmm"])
    for metric, name in (("p50", "p50"), ("p99", tail_name(times["samples"] or 0))):
        value = times[metric]
        column.cells[f"world switch, one way, {name} (us)"] = "-" if value is None else f"{value / 1000:.1f}"
    return column


def _traffic(column: _Column, place: Place, peer: Place, seconds: int) -> None:
    title, cells = column.title, column.cells
    _step(f"{title}: {_PINGS} pings to the peer")
    pings = ping(place, peer.address, count=_PINGS, interval=_PING_INTERVAL)
    cells["ping, median (ms)"] = f"{median(pings.rtts_ms):.3f}" if pings.rtts_ms else "-"
    slowest = f"ping, {tail_name(_PINGS)} (ms)"
    cells[slowest] = f"{percentile(pings.rtts_ms, 99):.3f}" if pings.rtts_ms else "-"
    cells["pings lost"] = f"{pings.lost} of {pings.sent}"
    _step(f"{title}: iperf3 TCP to the peer, {seconds} s")
    sent = iperf3.measure(place, peer, seconds=seconds, omit=1)
    cells["TCP to the peer (Mb/s)"] = f"{sent.goodput_mbps:.1f}"
    _step(f"{title}: iperf3 TCP from the peer, {seconds} s")
    received = iperf3.measure(peer, place, seconds=seconds, omit=1)
    cells["TCP from the peer (Mb/s)"] = f"{received.goodput_mbps:.1f}"
    _step(f"{title}: iperf3 UDP at {_UDP_RATE // 1_000_000} Mb/s to the peer, {seconds} s")
    udp = iperf3.measure_udp(place, peer, _UDP_RATE, seconds=seconds)
    cells["UDP at 20 Mb/s, datagrams lost"] = f"{udp.lost} of {udp.sent}"


def _count(column: _Column, spent: dict[str, int]) -> None:
    frames = max(1, spent["tx_frames"] + spent["rx_frames"])
    accesses = spent["io_in"] + spent["io_out"] + spent["rap_stores"]
    column.cells |= {
        "frames sent / received": f"{spent['tx_frames']}/{spent['rx_frames']}",
        "port accesses per frame": f"{accesses / frames:.2f}",
        "of these, traps": f"{(spent['io_in'] + spent['io_out']) / frames:.2f}",
        "of these, world switches for I/O": f"{spent['io_switched'] / frames:.2f}",
        "world switches per frame, all reasons": f"{spent['world_switches'] / frames:.2f}",
        "virtual interrupts per frame": f"{spent['irqs_raised'] / frames:.2f}",
    }


def _step(text: str) -> None:
    print(wrapped(f"==> {text}", hanging="    "), flush=True)


def _print_table(columns: list[_Column], note: str) -> None:
    labels = list(dict.fromkeys(row for column in columns for row in column.cells))
    rows = [[label, *(column.cells.get(label, "") for column in columns)] for label in labels]
    print(f"\n{table(['', *(column.title for column in columns)], rows)}\n")
    print(prose(note))
    print(prose(_LEGEND))
