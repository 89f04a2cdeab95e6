"""``worldswitch bench throughput``: TCP between guest and peer in every mode, beside the native machine.

Paper, sections 3.2 and 3.3: nettest with operations of 4096 bytes, here both ways, at 100 Mb/s and 1 Gb/s. Each
measurement is made again with iperf3, a public tool; the two must agree. ``--link none`` compares with bare paths,
too: one Python process, and VDE's three C processes, that only copy frames.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from contextlib import ExitStack
from typing import Final

from lab import preflight
from lab.bench import paper
from lab.bench.guests import check_guest, driver_of, guest_keys, stock_guest
from lab.bench.machines import MODE_CONFIGURATIONS, NATIVE, RELAY, VDE, Configuration, Machines, bare_network
from lab.bench.remarks import beyond_native
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import NOTHING, percent, spread, table, warn
from lab.bench.testbed import testbed
from lab.bench.transfer import DIRECTIONS, cross_check, record, transfer
from lab.bench.validity import merged
from lab.load import vde
from lab.readings import LOST, quotient
from lab.textlayout import prose
from machine.config import Settings, make_settings
from netbackend.rate import format_rate, parse_rate

__all__ = ["OPTIONS", "Series", "disagreement", "run", "series_of", "show"]

OPTIONS: Final = ("guest", "link", "profile", "seconds")

_RUNS: Final = 5
_AGREEMENT: Final = 0.05  # by how much nettest and iperf3 may differ
_EVERY_MODE: Final = tuple(MODE_CONFIGURATIONS)
_ENDS: Final = ("2.0", "optimised")
_DEFAULT_SERIES: Final[tuple[tuple[str, str], ...]] = (("100mbit", "paper"), ("1gbit", "fast"))
_SLOWEST_FAST_LINK: Final = 1_000_000_000  # bit/s; from there on, the profile to use is "fast"
_CHECK_HEADER: Final = ("iperf3 Mb/s", "differ by")
_REST_HEADER: Final = (
    "idle %",
    "traps",
    "switches",
    "IRQs",
    "lost",
    "resent",
    "paper Mb/s",
)

_LEGEND: Final = """\
Traps, world switches, interrupts: for each frame through the virtual NIC, acknowledgements included. Lost: frames, for
want of a receive descriptor, in write() and in queues. Resent: TCP segments. Medians [least..most].

Paper: the virtual machine on a 733 MHz Pentium III, sending at 100 Mb/s; "link": it filled the link.\
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Series:
    """Configurations compared on one link with one profile: on one testbed."""

    settings: Settings
    configurations: tuple[Configuration, ...]

    @property
    def keys(self) -> dict[str, str]:
        """What tells this series' samples from another's."""
        return {"link": self.settings.link, "profile": self.settings.profile} | guest_keys(self.settings)

    @property
    def load(self) -> str:
        """What makes the traffic, on both machines: a stock guest has no Python for nettest."""
        return "iperf3" if self.settings.foreign else "nettest"

    @property
    def jobs(self) -> list[tuple[Configuration, str]]:
        """What one round measures, in order."""
        return [(configuration, direction) for direction in DIRECTIONS for configuration in self.configurations]

    def label(self, job: tuple[Configuration, str]) -> str:
        """One job, for the progress bar."""
        return f"{job[0].name}, {job[1]}, link {self.settings.link}"


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table for each link, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    every = series_of(args.link, args.profile, args.guest, vde_there=vde.available())
    for series in every:
        check_guest(series.settings)
    foreign = any(series.settings.foreign for series in every)
    checked = not foreign and shutil.which("iperf3") is not None
    if not checked and not foreign:
        print("iperf3 is not installed: nettest's figures are not cross-checked (apt install iperf3)", file=sys.stderr)
    settings = effort.as_map() | {
        "operation_bytes": paper.OPERATION_BYTES,
        "stacks": [series.settings.as_map() for series in every],
    }
    progress = Progress(effort.rounds * sum(len(series.jobs) for series in every))
    with (
        Recorder("throughput", settings, args.json, progress) as recorder,
        reported(progress, lambda: _show_all(recorder, every)),
    ):
        for series in every:
            _measure(recorder, series, effort, progress, checked=checked)
    return recorder.status


def series_of(link: str | None, profile: str | None, guest: str | None = None, *, vde_there: bool) -> list[Series]:
    """The series to measure: the paper's wire and a fast one, or one of the user's. ConfigError for a bad choice."""
    pairs = _DEFAULT_SERIES
    if link is not None:
        link = format_rate(parse_rate(link))
        pairs = ((link, profile or _profile_for(link)),)
    elif profile is not None:
        pairs = tuple(pair for pair in _DEFAULT_SERIES if pair[1] == profile)
    return [
        _series(make_settings({"link": link, "profile": profile, "guest": guest}), vde_there=vde_there)
        for link, profile in pairs
    ]


def _profile_for(link: str) -> str:
    rate = parse_rate(link)
    return "fast" if rate is None or rate >= _SLOWEST_FAST_LINK else "paper"


def _series(settings: Settings, *, vde_there: bool) -> Series:
    modes = _EVERY_MODE if settings.profile == "paper" or settings.foreign else _ENDS
    bare: tuple[Configuration, ...] = ()
    if settings.link == "none":
        bare = (RELAY, VDE) if vde_there else (RELAY,)
    return Series(settings, (NATIVE, *(MODE_CONFIGURATIONS[name] for name in modes), *bare))


def _measure(recorder: Recorder, series: Series, effort: Effort, progress: Progress, *, checked: bool) -> None:
    with ExitStack() as stack:
        bed = stack.enter_context(testbed(series.settings))
        bare = stack.enter_context(bare_network(series.settings.link)) if RELAY in series.configurations else None
        machines = Machines(bed, bare, stack.enter_context(stock_guest(bed)))
        for number, (configuration, direction) in rounds(series.jobs, effort, progress, series.label):
            metrics = transfer(machines, configuration, direction, effort)
            if checked:
                metrics = merged(metrics, cross_check(machines, configuration, direction, effort))
            if number > 0:
                record(recorder, configuration, metrics, number, direction=direction, **series.keys)


def _show_all(recorder: Recorder, every: list[Series]) -> None:
    for series in every:
        show(recorder, series)
    print(prose(_LEGEND))


def show(recorder: Recorder, series: Series) -> None:
    """One table; nothing if nothing of it has been measured."""
    if not recorder.values(**series.keys):
        return
    settings = series.settings
    print(prose(f"TCP, link {settings.link}, profile {settings.profile} (driver {driver_of(settings)})"))
    checks = () if settings.foreign else _CHECK_HEADER
    header = ("configuration", "direction", f"{series.load} Mb/s", "of native", *checks, *_REST_HEADER)
    print(table(header, [_row(recorder, series, *job) for job in series.jobs], keys=2))
    for direction in DIRECTIONS:
        for line in _beyond_native(recorder, series, direction):
            warn(line)
    print(prose(_agreement(recorder, series)), end="\n\n", flush=True)


def _beyond_native(recorder: Recorder, series: Series, direction: str) -> list[str]:
    keys = {"direction": direction, "metric": "goodput_mbps", **series.keys}
    found = {f"{c.name}, {direction}": recorder.values(configuration=c.name, **keys) for c in series.configurations}
    return beyond_native(found, recorder.values(configuration=NATIVE.name, **keys), more_is_better=True)


def _row(recorder: Recorder, series: Series, configuration: Configuration, direction: str) -> list[str]:
    def values(metric: str, name: str = configuration.name) -> list[float]:
        return recorder.values(configuration=name, direction=direction, metric=metric, **series.keys)

    goodput, native = values("goodput_mbps"), values("goodput_mbps", NATIVE.name)
    share = quotient(goodput, native)
    lost = [value for metric in LOST for value in values(metric)]
    quoted = direction == "transmit" and series.settings.link == "100mbit" and not series.settings.foreign
    checks = () if series.settings.foreign else (values("iperf3_mbps"),)
    return [
        configuration.name,
        direction,
        spread(goodput),
        NOTHING if share is None else f"{share:.3f}",
        *(cell for check in checks for cell in (spread(check), _as_percent(disagreement(goodput, check)))),
        percent(values("idle_share")),
        *(spread(values(f"{what}_per_packet"), 2) for what in ("traps", "world_switches", "irqs")),
        f"{sum(lost):.0f}" if goodput else NOTHING,
        spread(values("retransmits"), 0),
        paper.THROUGHPUT_MBPS.get(configuration.name, NOTHING) if quoted else NOTHING,
    ]


def _agreement(recorder: Recorder, series: Series) -> str:
    if series.settings.foreign:
        return "The load is iperf3, in all configurations: a stock guest has no Python for nettest."
    found: dict[str, float] = {}
    for configuration, direction in series.jobs:
        keys = {"configuration": configuration.name, "direction": direction, **series.keys}
        goodput, check = (recorder.values(metric=metric, **keys) for metric in ("goodput_mbps", "iperf3_mbps"))
        difference = disagreement(goodput, check)
        if difference is not None:
            found[f"{configuration.name}, {direction}"] = abs(difference)
    if not found:
        return "nettest and iperf3 were not compared."
    worst = max(found, key=lambda name: found[name])
    verdict = "agree within" if found[worst] <= _AGREEMENT else "DIFFER by more than"
    return f"nettest and iperf3 {verdict} {_AGREEMENT:.0%}: at most by {found[worst]:.1%} ({worst})."


def disagreement(goodput: list[float], check: list[float]) -> float | None:
    """By how much iperf3's median exceeds nettest's, as a share of nettest's; None if one is missing."""
    found = quotient(check, goodput)
    return None if found is None else found - 1


def _as_percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:+.1%}"
