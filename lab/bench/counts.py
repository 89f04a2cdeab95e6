"""``worldswitch bench counts``: what a packet costs in port accesses, traps, world switches, interrupts.

Paper, sections 3.2 and 4: Linux 2.2's driver makes 12 port accesses and takes one interrupt for each packet sent, and
its interrupt handler makes 5 accesses to the 8259A pair. Counted here for lone packets and in bulk, both ways, for
each guest driver and mode. Counts, not times: they barely depend on the machine.
"""

from __future__ import annotations

import argparse
from math import ceil
from typing import Final

from lab import preflight
from lab.bench import paper, qemuload
from lab.bench.guests import check_guest, driver_of, guest_keys, stock_guest
from lab.bench.lone import send_apart
from lab.bench.machines import MODE_CONFIGURATIONS, Configuration, Machines
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, spread, table
from lab.bench.testbed import testbed
from lab.bench.transfer import DIRECTIONS, known, lively, record, transfer
from lab.bench.validity import Measured, attempted, of_alone, of_counters, of_cpus, of_frames
from lab.bench.window import watching
from lab.readings import grown, per_packet
from lab.textlayout import prose
from machine.config import CHOICES, Settings, make_settings
from netbackend.rate import parse_rate

__all__ = ["LOADS", "METRICS", "OPTIONS", "jobs", "run", "show"]

OPTIONS: Final = ("guest", "link", "profile", "seconds")
LOADS: Final = ("lone", "bulk")
METRICS: Final = {
    "port_accesses_per_packet": "port accesses",
    "traps_per_packet": "traps",
    "world_switches_per_packet": "world switches",
    "io_switches_per_packet": "for I/O",
    "irqs_per_packet": "IRQs",
    "pic_accesses_per_packet": "PIC accesses",
    "pic_accesses_per_irq": "PIC per IRQ",
}
"""Metric -> column."""

_RUNS: Final = 3
_GAP_SECONDS: Final = 0.03  # longer than a tick of 10 ms, and all that a packet sets off
_FEWEST: Final = 10
_MOST: Final = 0.75  # of the lone packets that were sent, what the card must have carried at least
_DRIVERS: Final = CHOICES["driver"]

_LEGEND: Final = """\
For each frame through the virtual NIC, both ways, acknowledgements included. Port accesses: the Lance's, RAP without a
trap too. Traps: port accesses that trap, the 8259A's too, and HLT. World switches for I/O: those for a port access or
for queued packets; the others hand over HLT or a host interrupt. Medians [least..most].

Paper: Linux 2.2's driver, for each packet sent (sections 4.1 and 4.3).\
"""
_STOCK_LEGEND: Final = """\
A stock guest has its 8259A pair and its HLT within QEMU: only the Lance's accesses trap to us. Its driver looks at the
link every two seconds, which counts here, too.\
"""

Job = tuple[Configuration, str, str]  # and load, and direction


def jobs() -> list[Job]:
    """What one round of one driver measures, in order."""
    return [
        (configuration, load, way)
        for load in LOADS
        for way in DIRECTIONS
        for configuration in MODE_CONFIGURATIONS.values()
    ]


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table for each driver, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    stacks = stacks_of(args.link, args.profile, args.guest)
    check_guest(stacks[0])
    facts = effort.as_map() | {"operation_bytes": paper.OPERATION_BYTES, "stacks": [each.as_map() for each in stacks]}
    progress = Progress(effort.rounds * len(jobs()) * len(stacks))
    with (
        Recorder("counts", facts, args.json, progress) as recorder,
        reported(progress, lambda: _show_all(recorder, stacks)),
    ):
        for settings in stacks:
            _measure(recorder, settings, effort, progress)
    return recorder.status


def stacks_of(link: str | None, profile: str | None, guest: str | None) -> list[Settings]:
    """The stacks to measure: the built-in guest with each of its drivers, or a stock one with its own.

    ConfigError for a bad choice.
    """
    chosen = {"profile": profile, "link": link, "guest": guest}
    found = [make_settings(chosen)]
    if not found[0].foreign:
        found = [make_settings(chosen, {"driver": driver}) for driver in _DRIVERS]
    parse_rate(found[0].link)
    return found


def _measure(recorder: Recorder, settings: Settings, effort: Effort, progress: Progress) -> None:
    driver = driver_of(settings)
    keys = {"driver": driver, "link": settings.link, "profile": settings.profile} | guest_keys(settings)

    def label(job: Job) -> str:
        configuration, load, direction = job
        return f"{driver}, {configuration.name}, {load} {direction}"

    with testbed(settings) as bed, stock_guest(bed) as guest:
        machines = Machines(bed, guest=guest)
        for number, (configuration, load, direction) in rounds(jobs(), effort, progress, label):
            if load == "lone":
                metrics = _lone(machines, configuration, direction, effort)
            else:
                metrics = transfer(machines, configuration, direction, effort)
            if number > 0:
                record(recorder, configuration, metrics, number, load=load, direction=direction, **keys)


def _lone(machines: Machines, configuration: Configuration, direction: str, effort: Effort) -> Measured:
    """The cost of a packet when nothing else goes on, mean of some; the card must have carried as many as were sent."""
    return attempted(
        lambda: _apart(machines, configuration, direction, max(_FEWEST, int(effort.seconds / _GAP_SECONDS)))
    )


def _apart(machines: Machines, configuration: Configuration, direction: str, packets: int) -> Measured:
    with lively(machines), machines.standing(configuration):
        _send(machines, direction, 1)  # and what went on before has come to its end
        before = machines.counters()
        with watching(machines) as seen:
            _send(machines, direction, packets)
        spent = grown(before, machines.counters())
    notes = {} if seen.conditions is None else seen.conditions.as_fields()
    faults = [*of_frames(spent, ceil(_MOST * packets)), *of_counters(spent), *of_cpus(seen.use)]
    if direction == "receive" and (machines.guest is not None or not machines.bed.settings.linger_us):
        faults += of_alone(spent)
    return Measured(known(machines, per_packet(spent)), notes, *faults)


def _send(machines: Machines, direction: str, count: int) -> None:
    """Lone packets from machine A or to it."""
    plan = machines.bed.plan
    if direction == "receive":
        send_apart(plan.peer, plan.guest, count, _GAP_SECONDS)
    elif machines.guest is None:
        send_apart(plan.guest, plan.peer, count, _GAP_SECONDS)
    else:
        qemuload.send_apart(machines.guest.console, count, _GAP_SECONDS)


def _show_all(recorder: Recorder, stacks: list[Settings]) -> None:
    for settings in stacks:
        show(recorder, driver_of(settings))
    print(prose(_LEGEND))
    if stacks[0].foreign:
        print(prose(_STOCK_LEGEND))


def show(recorder: Recorder, driver: str) -> None:
    """The table of one driver; nothing if nothing of it has been measured."""
    if not recorder.values(driver=driver):
        return
    rows = [_row(recorder, driver, *job) for job in jobs()]
    quoted = {
        "port_accesses_per_packet": paper.PORT_ACCESSES_PER_PACKET_SENT,
        "irqs_per_packet": paper.IRQS_PER_PACKET_SENT,
        "pic_accesses_per_irq": paper.PIC_ACCESSES_PER_IRQ,
    }
    if driver == "linux22":
        rows.append(["paper", "sent", "", *(str(quoted.get(metric, NOTHING)) for metric in METRICS)])
    print(f"What a packet costs, driver {driver}")
    print(table(("mode", "load", "direction", *METRICS.values()), rows, keys=3), end="\n\n", flush=True)


def _row(recorder: Recorder, driver: str, configuration: Configuration, load: str, direction: str) -> list[str]:
    keys = {"configuration": configuration.name, "driver": driver, "load": load, "direction": direction}
    cells = (spread(recorder.values(metric=metric, **keys), 2) for metric in METRICS)
    return [configuration.name, load, direction, *cells]
