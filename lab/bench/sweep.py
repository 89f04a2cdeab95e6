"""``worldswitch bench sweep``: throughput against the size of an operation (paper, section 3.4, Figure 6).

512 to 65536 bytes per send(), native, 2.0 and optimised; with the whole CPU, and with machine A held to half of it:
where the paper took a machine with half the clock, a control group's CPU bandwidth makes one.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lab import preflight
from lab.bench import paper
from lab.bench.machines import MODE_CONFIGURATIONS, NATIVE, Configuration, Machines, inhabitants
from lab.bench.rounds import Effort, Progress, reported, rounds
from lab.bench.samples import Recorder
from lab.bench.tables import spread, table
from lab.bench.testbed import testbed
from lab.bench.transfer import record, transfer
from lab.cgroup import CpuGroup
from lab.textlayout import prose, wrapped
from machine.config import make_settings
from machine.errors import WorldswitchError
from netbackend.rate import parse_rate

__all__ = ["OPTIONS", "SHARES", "jobs_of", "run", "show"]

OPTIONS: Final = ("link", "profile", "seconds")
SHARES: Final = {"full": 1.0, "half": 0.5}  # of machine A's CPUs

_RUNS: Final = 3
_DIRECTION: Final = "transmit"
_CONFIGURATIONS: Final = (NATIVE, MODE_CONFIGURATIONS["2.0"], MODE_CONFIGURATIONS["optimised"])
_QUICK_SIZES: Final = paper.SWEEP_SIZES[::3]
_POLL_SECONDS: Final = 0.03

Job = tuple[Configuration, str, int]  # and the share of the CPU, and the operation's size


def jobs_of(sizes: tuple[int, ...]) -> list[Job]:
    """What one round measures, in order: at each size and share every configuration."""
    return [(configuration, share, size) for share in SHARES for size in sizes for configuration in _CONFIGURATIONS]


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, writes the samples."""
    preflight.check_machine()
    effort = Effort.of(args, _RUNS)
    settings = make_settings({"profile": args.profile, "link": args.link})
    parse_rate(settings.link)
    jobs = jobs_of(_QUICK_SIZES if args.quick else paper.SWEEP_SIZES)
    _check_groups()
    facts = effort.as_map() | {"shares": SHARES, "stack": settings.as_map()}
    keys = {"direction": _DIRECTION, "link": settings.link, "profile": settings.profile}
    progress = Progress(effort.rounds * len(jobs))
    with (
        Recorder("sweep", facts, args.json, progress) as recorder,
        reported(progress, lambda: show(recorder)),
        testbed(settings) as bed,
    ):
        machines = Machines(bed)
        for number, (configuration, share, size) in rounds(jobs, effort, progress, _label):
            with _held(machines, configuration, SHARES[share]):
                metrics = transfer(machines, configuration, _DIRECTION, effort, size)
            if number > 0:
                record(recorder, configuration, metrics, number, cpu=share, operation_bytes=size, **keys)
    return recorder.status


def _label(job: Job) -> str:
    configuration, share, size = job
    return f"{configuration.name}, {share} CPU, {size} bytes"


def _group(cpus: float) -> CpuGroup:
    return CpuGroup(f"worldswitch-{os.getpid()}", cpus)


def _check_groups() -> None:
    """Fails now rather than after the first half."""
    with _group(min(SHARES.values())):
        pass


@contextmanager
def _held(machines: Machines, configuration: Configuration, share: float) -> Iterator[None]:
    """Machine A (the stack where it is virtual, and the program that makes its traffic) has that share of its CPUs."""
    if share >= 1:
        yield
        return
    with _group(share * len(machines.cpus)) as group:
        if configuration.virtual:
            for pid in machines.bed.stack.pids.values():
                group.take(pid)
        plan = machines.bed.plan
        station = plan.native if configuration is NATIVE else plan.guest
        with _adopted(group, station.namespace):
            yield


@contextmanager
def _adopted(group: CpuGroup, namespace: str) -> Iterator[None]:
    """The program that this process runs in the namespace joins the group as soon as seen; a second attempt's, too."""
    over = threading.Event()
    failures: list[WorldswitchError] = []

    def watch() -> None:
        held: int | None = None
        try:
            while not over.wait(_POLL_SECONDS):
                if held is not None and os.path.exists(f"/proc/{held}"):
                    continue  # to look through all processes would take time from what is measured
                held = next(inhabitants(namespace), None)
                if held is not None:
                    group.take(held)
        except WorldswitchError as error:
            failures.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    for error in failures:
        raise error


def show(recorder: Recorder) -> None:
    """One table: a row for each size, a column for each configuration and share. Nothing if nothing was measured."""
    if not recorder.samples:
        return
    facts = recorder.samples[0]
    columns = [(share, configuration.name) for share in SHARES for configuration in _CONFIGURATIONS]
    wire = f"link {facts['link']}, profile {facts['profile']}"
    print(prose(f"Mb/s against operation size, guest to peer, {wire}"))
    print(table(("bytes", *(f"{name}, {share} CPU" for share, name in columns)), _rows(recorder, columns)))
    print(prose("Medians [least..most]. The paper found (its Figure 6 prints no numbers):"))
    for finding in paper.SWEEP_FINDINGS:
        print(wrapped(finding, "  ", "    "))


def _rows(recorder: Recorder, columns: list[tuple[str, str]]) -> Iterator[list[str]]:
    for size in sorted({sample["operation_bytes"] for sample in recorder.samples}):
        cells = (
            recorder.values(configuration=name, cpu=share, operation_bytes=size, metric="goodput_mbps")
            for share, name in columns
        )
        yield [str(size), *map(spread, cells)]
