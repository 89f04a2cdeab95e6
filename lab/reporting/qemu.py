"""A stock guest with our network card, beside the same guest with QEMU's own. Not an experiment of the paper."""

from __future__ import annotations

from typing import Final

from lab.bench.qemubars import OWN, tail_of_pings, verdicts
from lab.bench.tables import spread
from lab.readings import DIRECTIONS
from lab.reporting.blocks import Bars, Block, Chart, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import drawn, heading, missing, ratio, slug

__all__ = ["qemu"]

_PER_PACKET: Final = {
    "port_accesses_per_packet": "accesses a frame",
    "world_switches_per_packet": "switches a frame",
    "irqs_per_packet": "IRQs a frame",
}
_EXPLAINED: Final = (
    "The same QEMU, kernel, driver and programs; only the network card differs. QEMU's own does what an access asks "
    "for in a function call on the thread that emulates the processor. Ours is behind a socket: an access wakes the "
    "vmm, its answer a thread of QEMU's, and that one the processor's. What the driver does is its own business: two "
    "accesses to send a frame, fourteen for an interrupt."
)


def qemu(found: Collection) -> Section:
    """Throughput, round trips and what an access costs; and the goals beside what was found."""
    section = Section("qemu", "A stock guest: our card and QEMU's own", "not in the paper")
    results = found.of("qemu")
    if not results:
        section.blocks.append(missing("qemu"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        section.blocks += [_transfers(result), _round_trips(result), *drawn(result, _chart(result, number))]
        section.blocks += _judged(result)
    return section


def _transfers(result: Result) -> Table:
    rows = []
    for direction in DIRECTIONS:
        for name in result.distinct("configuration", direction=direction):
            keys = {"configuration": name, "direction": direction}
            goodput = result.values(metric="goodput_mbps", **keys)
            base = result.values(metric="goodput_mbps", configuration=OWN, direction=direction)
            counts = (spread(result.values(metric=metric, **keys), 2) for metric in _PER_PACKET)
            rows.append([name, direction, spread(goodput), ratio(goodput, base), *counts])
    header = ("network card", "direction", "Mb/s", "of QEMU's own", *_PER_PACKET.values())
    return Table("TCP between the guest and the peer, by iperf3", header, rows)


def _round_trips(result: Result) -> Table:
    rows = []
    base = result.values(metric="rtt_p50_ms", configuration=OWN)
    for name in result.distinct("configuration", metric="rtt_p50_ms"):
        middle = result.values(metric="rtt_p50_ms", configuration=name)
        tail, access = (result.values(metric=metric, configuration=name) for metric in ("rtt_p99_ms", "access_us"))
        rows.append([name, spread(middle, 3), spread(tail, 3), ratio(middle, base), spread(access, 2)])
    header = ("network card", "round trip, ms", f"{tail_of_pings(result)}, ms", "of QEMU's own", "one port access, us")
    return Table("Pings from the peer, and one port access by the guest's clock", header, rows)


def _chart(result: Result, number: int) -> Chart:
    names = result.distinct("configuration", metric="goodput_mbps")
    bars = []
    for direction in DIRECTIONS:
        keys = {"metric": "goodput_mbps", "direction": direction}
        bars.append(Series(direction, [point(result.values(configuration=name, **keys)) for name in names]))
    return Chart(
        slug("qemu", number),
        "Throughput of a stock guest",
        "Goodput of TCP with each network card, both ways; whiskers reach from the least to the most.",
        Bars(names, bars, "Mb/s"),
    )


def _judged(result: Result) -> list[Block]:
    blocks: list[Block] = [Prose(_EXPLAINED)]
    blocks += [Prose(f"Mode optimised, {line}.", warning=met is False) for met, line in verdicts(result)]
    return blocks
