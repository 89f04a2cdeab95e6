"""``worldswitch demo``: one machine, traffic through it and beside it, and what each packet cost.

Starts a stack in namespaces of its own, pings and runs iperf3 from the guest to the peer and back, runs the same
natively over the same bridge and wire, and prints one table. Everything in the table was measured in this run. What
fails leaves its cell empty and says why; the rest goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from lab import demoguest, preflight
from lab.arguments import whole
from lab.bench.machines import MODE_CONFIGURATIONS, NATIVE, Configuration, Machines
from lab.bench.rounds import Effort
from lab.bench.tables import figure, warn
from lab.bench.testbed import Testbed, testbed
from lab.bench.window import TAIL_SECONDS, observed
from lab.demoparts import Parts, step
from lab.load import iperf3
from lab.load.ping import ping
from lab.load.place import Place
from lab.readings import frames, grown, median, per_packet, percentile, tail_label
from lab.status import switch_times
from lab.textlayout import prose, table
from machine.config import PROFILES, make_settings
from netbackend.rate import parse_rate

__all__ = ["configure", "run"]

_SECONDS: Final = 4
_MOST_SECONDS: Final = 3600
_PINGS: Final = 20
_PING_INTERVAL: Final = 0.05
_UDP_RATE: Final = 20_000_000
_MODES: Final = ("2.0", "optimised")
_SHORTEST_SECONDS: Final = 0.3
_WARM_UP: Final = 1  # second; iperf3 knows whole ones
_PER_FRAME: Final = {
    "port_accesses_per_packet": "accesses to the Lance per frame",
    "pic_accesses_per_packet": "accesses to the 8259A pair per frame",
    "traps_per_packet": "traps per frame, HLT included",
    "io_switches_per_packet": "of these, world switches for I/O",
    "world_switches_per_packet": "world switches per frame, all reasons",
    "irqs_per_packet": "virtual interrupts per frame",
}
_LEGEND: Final = """\
native: the same programs on the same CPUs, bridge and wire, without the virtual machine.

Counts are over all the traffic of a column, acknowledgements included; the paper's 12 accesses to the Lance are for a
packet sent alone (`worldswitch bench counts`). A switch is timed from the last instruction in one world to the first in
the other.\
"""


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
    """The whole demonstration; returns the exit status: 0 unless nothing of it worked.

    ConfigError for a bad --link, before anything is done.
    """
    parse_rate(args.link)
    preflight.check_machine()
    if args.guest == "qemu":
        return demoguest.run(args)
    preflight.require_program("iperf3", "iperf3")
    preflight.require_program("ping", "iputils-ping")
    settings = make_settings({"profile": args.profile or "paper", "link": args.link})
    step("starting guest, vmm and vmapp, and a network in namespaces of their own")
    with testbed(settings) as bed:
        machines = Machines(bed)
        places = _places(bed, machines)
        columns = [_Column("native", NATIVE, machines)]
        columns[0].fill(places["native"], places["peer"], args.seconds)
        for mode in _MODES:
            bed.change(mode=mode)
            columns.append(_virtual(machines, places, mode, args.seconds))
        pids = ", ".join(f"{role} {pid}" for role, pid in bed.stack.pids.items())
        step("removing everything")
    _print_table(columns, f"profile {settings.profile}, driver {settings.driver}, link {settings.link}; {pids}")
    return 0 if any(column.parts.worked for column in columns) else 1


def _places(bed: Testbed, machines: Machines) -> dict[str, Place]:
    return {
        role: Place.of(station, machines.peer_cpus if role == "peer" else machines.cpus)
        for role, station in bed.plan.stations.items()
    }


def _virtual(machines: Machines, places: dict[str, Place], mode: str, seconds: int) -> _Column:
    column = _Column(f"mode {mode}", MODE_CONFIGURATIONS[mode], machines)
    before = machines.counters()
    column.fill(places["guest"], places["peer"], seconds)
    column.count(grown(before, machines.counters()))
    times = switch_times(machines.bed.stack.counters["vmm"])
    for metric in ("p50", "p99"):
        value, label = times[metric], metric if metric == "p50" else tail_label(times["samples"] or 0)
        column.cells[f"world switch, one way, {label} (us)"] = "-" if value is None else f"{value / 1000:.1f}"
    return column


class _Column:
    """What was measured in one configuration: row -> value, as printed. ``remarks``: what must be said of it."""

    def __init__(self, title: str, configuration: Configuration, machines: Machines) -> None:
        self.title = title
        self.cells: dict[str, str] = {}
        self.remarks: list[str] = []
        self.parts = Parts(title, machines.bed.stack)
        self._configuration = configuration
        self._machines = machines

    def fill(self, place: Place, peer: Place, seconds: int) -> None:
        """Pings, TCP both ways, UDP; each by itself, so that one that fails costs its own row only."""
        udp = f"UDP at {_UDP_RATE // 1_000_000} Mb/s"
        works: dict[str, Callable[[], None]] = {
            f"{_PINGS} pings to the peer": lambda: self._pings(place, peer),
            f"iperf3 TCP to the peer, {seconds} s": lambda: self._tcp("TCP to the peer (Mb/s)", place, peer, seconds),
            f"iperf3 TCP from the peer, {seconds} s": lambda: self._tcp(
                "TCP from the peer (Mb/s)", peer, place, seconds
            ),
            f"iperf3 {udp} to the peer, {seconds} s": lambda: self._udp(f"{udp}, datagrams lost", place, peer, seconds),
        }
        for label, work in works.items():
            self.parts.do(label, work)

    def count(self, spent: dict[str, int]) -> None:
        """What a frame has cost, over all of the traffic."""
        self.cells["frames sent / received"] = f"{spent['tx_frames']}/{spent['rx_frames']}"
        if frames(spent) > 0:
            costs = per_packet(spent)
            self.cells |= {label: figure(costs[metric], 2) for metric, label in _PER_FRAME.items()}

    def _pings(self, place: Place, peer: Place) -> None:
        result = ping(place, peer.address, count=_PINGS, interval=_PING_INTERVAL)
        answers = result.rtts_ms
        self.cells["ping, median (ms)"] = f"{median(answers):.3f}" if answers else "-"
        self.cells[f"ping, {tail_label(_PINGS)} (ms)"] = f"{percentile(answers, 99):.3f}" if answers else "-"
        self.cells["pings lost"] = f"{result.lost} of {result.sent}"

    def _tcp(self, row: str, sender: Place, receiver: Place, seconds: int) -> None:
        effort = Effort(runs=1, seconds=max(_SHORTEST_SECONDS, seconds - TAIL_SECONDS), warm_up=_WARM_UP)
        with observed(self._machines, self._configuration, effort) as window:
            result = iperf3.measure(sender, receiver, seconds=seconds, omit=_WARM_UP)
        self.cells[row] = f"{result.goodput_mbps:.1f}"
        if result.retries:
            self.remarks.append(f"{row}: at the second attempt")
        elif window.observed is not None:
            self.remarks += [f"{row}: INVALID: {fault}" for fault in window.observed.faults(result.goodput_mbps)]
            busy = window.observed.conditions and window.observed.conditions.busy
            self.remarks += [f"{row}: {busy}"] if busy else []

    def _udp(self, row: str, sender: Place, receiver: Place, seconds: int) -> None:
        udp = iperf3.measure_udp(sender, receiver, _UDP_RATE, seconds=seconds)
        self.cells[row] = f"{udp.lost} of {udp.sent}"


def _print_table(columns: list[_Column], note: str) -> None:
    labels = list(dict.fromkeys(row for column in columns for row in column.cells))
    rows = [[label, *(column.cells.get(label, "") for column in columns)] for label in labels]
    print(f"\n{table(['', *(column.title for column in columns)], rows)}\n")
    print(prose(note))
    print(prose(_LEGEND))
    for column in columns:
        for remark in (*column.parts.failures, *column.remarks):
            warn(f"{column.title}: {remark}")
