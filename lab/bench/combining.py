"""``worldswitch bench combining``: what the settings of send combining do (paper, section 3.3.2).

The paper names neither the rate of world switches from which packets may wait nor how quickly the past is forgotten.
Each of the three settings takes its values in turn, the others at their defaults, while the guest sends through an
optimised stack; without combining at all stands first. The guest's HLT halts in the vmm, as for Table 3.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from lab import preflight
from lab.bench import paper
from lab.bench.machines import Configuration, Machines, mode
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, percent, spread, table
from lab.bench.testbed import testbed
from lab.bench.transfer import record, transfer
from lab.textlayout import prose
from machine.config import Settings, make_settings
from netbackend.rate import parse_rate

__all__ = ["OFF", "OPTIONS", "VALUES", "configurations", "run", "show"]

OPTIONS: Final = ("link", "profile", "seconds")
OFF: Final = "combining off"
VALUES: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "combine_threshold": (0, 100, 500, 2000, 10000),
        "combine_decay": (0.0, 0.5, 0.9),
        "combine_cap": (1, 3, 8),
    }
)

_RUNS: Final = 3
_DIRECTION: Final = "transmit"
_LEGEND: Final = """\
One setting changed at a time. Medians [least..most]. The paper: cap 3; it gives no threshold and no decay.\
"""
_HEADER: Final = ("", "Mb/s", "idle %", "switches a packet", "IRQs a packet", "")


def configurations(settings: Settings) -> dict[str, Configuration]:
    """Name -> configuration: combining off, then each value of each setting, the others as in ``settings``."""
    defaults: dict[str, Any] = {key: getattr(settings, key) for key in VALUES}
    every: list[tuple[str, dict[str, Any]]] = [(OFF, {"combining": False})]
    every += [(f"{key} {value:g}", {key: value}) for key, values in VALUES.items() for value in values]
    return {name: mode("optimised", name, hlt="vmm", **defaults | changes) for name, changes in every}


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    settings = make_settings({"profile": args.profile, "link": args.link})
    parse_rate(settings.link)
    every = configurations(settings)
    facts = effort.as_map() | {"operation_bytes": paper.OPERATION_BYTES, "stack": settings.as_map()}
    keys = {"direction": _DIRECTION, "link": settings.link, "profile": settings.profile}
    progress = Progress(effort.rounds * len(every))
    with (
        Recorder("combining", facts, args.json, progress) as recorder,
        reported(progress, lambda: show(recorder, settings)),
        testbed(settings) as bed,
    ):
        machines = Machines(bed)
        for number, configuration in rounds(list(every.values()), effort, progress, lambda one: one.name):
            metrics = transfer(machines, configuration, _DIRECTION, effort)
            if number > 0:
                record(recorder, configuration, metrics, number, **keys, **_values(configuration))
    return recorder.status


def _values(configuration: Configuration) -> dict[str, float]:
    """The three settings, for every sample to carry."""
    return {key: configuration.changes[key] for key in VALUES}


def show(recorder: Recorder, settings: Settings) -> None:
    """One table; nothing if nothing has been measured."""
    if not recorder.samples:
        return
    print(prose(f"Send combining, guest to peer, link {settings.link}, profile {settings.profile}"))
    print(table(_HEADER, _rows(recorder, settings)))
    print(prose(_LEGEND))


def _rows(recorder: Recorder, settings: Settings) -> Iterator[list[str]]:
    for name, configuration in configurations(settings).items():
        goodput, idle, switches, irqs = (
            recorder.values(configuration=name, metric=metric)
            for metric in ("goodput_mbps", "idle_share", "world_switches_per_packet", "irqs_per_packet")
        )
        is_default = name != OFF and all(configuration.changes[key] == getattr(settings, key) for key in VALUES)
        note = "default" if is_default else NOTHING
        yield [name, spread(goodput), percent(idle), spread(switches, 2), spread(irqs, 2), note]
