"""One TCP transfer between machines A and B, measured: goodput, idle time, what each packet cost, what was lost."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from lab import readings
from lab.bench.machines import Configuration, Machines, inhabitants
from lab.bench.paper import OPERATION_BYTES
from lab.bench.qemuload import Guest, tcp_report
from lab.bench.rounds import Effort
from lab.bench.samples import Recorder
from lab.bench.validity import Measured, attempted
from lab.bench.window import TAIL_SECONDS, Observed, observed
from lab.load import iperf3, nettest
from lab.load.nettest import NettestResult
from lab.load.place import Place
from lab.readings import DIRECTIONS, per_packet
from machine.errors import BenchError, GuestError, ProcessDiedError, StackError
from netbackend.links import LinkStatistics
from netbackend.topology import link_statistics

__all__ = ["DIRECTIONS", "UNITS", "cross_check", "known", "lively", "losses", "per_packet", "record", "transfer"]

UNITS: Final = {
    "goodput_mbps": "Mb/s",
    "iperf3_mbps": "Mb/s",
    "idle_share": "1",
    "guest_idle_share": "1",
    "traps_per_packet": "1",
    "io_switches_per_packet": "1",
    "port_accesses_per_packet": "1",
    "world_switches_per_packet": "1",
    "irqs_per_packet": "1",
    "pic_accesses_per_packet": "1",
    "pic_accesses_per_irq": "1",
    "retransmits": "segments",
    "received_bytes": "bytes",
    "rx_missed": "frames",
    "tap_write_errors": "frames",
    "queue_drops": "frames",
}
"""Unit of every metric that the benchmarks of transfers record. Packets: frames through the virtual NIC, both ways."""

_BUILTIN_ONLY: Final = frozenset(("guest_idle_share", "pic_accesses_per_packet", "pic_accesses_per_irq"))
_WATCH_SECONDS: Final = 0.1  # how long a dead stack goes unnoticed
_GRACE_SECONDS: Final = 60.0  # how much longer than planned: a slow machine takes its time to drain TCP's buffers


def transfer(
    machines: Machines,
    configuration: Configuration,
    direction: str,
    effort: Effort,
    operation_bytes: int = OPERATION_BYTES,
) -> Measured:
    """Metric -> value of one TCP connection. ProcessDiedError if the stack dies, BenchError if the load fails twice.

    The load is nettest, or iperf3 in all configurations if the guest is a stock one. Measured once more if counters
    and load contradict each other; then marked as invalid.
    """
    return attempted(lambda: _once(machines, configuration, direction, effort, operation_bytes))


def _once(
    machines: Machines, configuration: Configuration, direction: str, effort: Effort, operation_bytes: int
) -> Measured:
    with lively(machines), machines.standing(configuration) as (near, far):
        before = _losses(machines, configuration)
        with observed(machines, configuration, effort) as window:
            in_guest = machines.guest if configuration.virtual else None
            if in_guest is None:
                result = _between(machines, near, far, direction, effort, operation_bytes)
            else:
                result = _in_guest(in_guest, far, direction, effort, operation_bytes)
        lost = readings.grown(before, _losses(machines, configuration))
    seen = window.result()
    faults = seen.faults(result.goodput_mbps)
    if result.retries:  # the window may be of the attempt that failed
        faults = ("the load failed once, perhaps while it was observed", *faults)
    metrics = _outcome(result) | known(machines, _shares(seen)) | lost
    return Measured(metrics, seen.notes | {"retries": result.retries}, *faults)


def _between(
    machines: Machines, near: Place, far: Place, direction: str, effort: Effort, operation_bytes: int
) -> NettestResult:
    measure = nettest.measure if machines.guest is None else iperf3.measure
    lasting = effort.seconds + TAIL_SECONDS
    return measure(
        *((near, far) if direction == "transmit" else (far, near)),
        seconds=lasting,
        operation_bytes=operation_bytes,
        omit=effort.warm_up,
        max_seconds=effort.warm_up + lasting + _GRACE_SECONDS,
    )


def _in_guest(guest: Guest, far: Place, direction: str, effort: Effort, operation_bytes: int) -> NettestResult:
    lasting = effort.seconds + TAIL_SECONDS
    return iperf3.tcp_result(
        tcp_report(guest.console, far, direction, seconds=lasting, omit=effort.warm_up, operation_bytes=operation_bytes)
    )


def known(machines: Machines, metrics: Mapping[str, float]) -> dict[str, float]:
    """``metrics`` without those that a stock guest keeps to itself: its HLT and its 8259A pair are QEMU's."""
    return {name: value for name, value in metrics.items() if machines.guest is None or name not in _BUILTIN_ONLY}


def cross_check(machines: Machines, configuration: Configuration, direction: str, effort: Effort) -> Measured:
    """The goodput of the same transfer by iperf3, a second attempt if need be."""
    with lively(machines), machines.standing(configuration) as (near, far):
        result = iperf3.measure(
            *((near, far) if direction == "transmit" else (far, near)),
            seconds=effort.seconds,
            operation_bytes=OPERATION_BYTES,
            omit=effort.warm_up,
            max_seconds=2 * (effort.warm_up + effort.seconds) + _GRACE_SECONDS,
        )
    return Measured({"iperf3_mbps": result.goodput_mbps}, {"retries": result.retries})


def record(
    recorder: Recorder, configuration: Configuration, metrics: Mapping[str, float], run: int, **keys: object
) -> None:
    """One sample for each metric, each with what is to be known of the measurement."""
    notes = metrics.notes if isinstance(metrics, Measured) else {}
    for metric, value in metrics.items():
        recorder.add(configuration.name, metric, UNITS[metric], value, run, **keys, **notes)


@contextmanager
def lively(machines: Machines) -> Iterator[None]:
    """A load within the block ends as soon as the stack dies, and with ProcessDiedError, whatever it said itself."""
    over = threading.Event()
    watcher = threading.Thread(target=_end_with_stack, args=(machines, over), daemon=True)
    try:
        watcher.start()  # in here: Ctrl-C may come at any moment, and must not leave it running
        yield
    except (BenchError, GuestError, StackError) as error:
        _check(machines, error)
        raise
    finally:
        over.set()
        if watcher.ident is not None:
            watcher.join()
    _check(machines, None)


def _end_with_stack(machines: Machines, over: threading.Event) -> None:
    """Without it a load would wait for its connection until its own limit."""
    poll = select.poll()
    for pidfd in machines.bed.stack.pidfds.values():
        poll.register(pidfd, select.POLLIN)
    while not over.wait(_WATCH_SECONDS):
        if poll.poll(0):
            for station in machines.bed.plan.stations.values():
                for pid in inhabitants(station.namespace):
                    _terminate(pid)
            if machines.guest is not None:
                machines.guest.console.interrupt()


def _terminate(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _check(machines: Machines, cause: Exception | None) -> None:
    died = machines.bed.stack.died()
    if died is not None:
        raise ProcessDiedError(died) from cause


def _outcome(result: NettestResult) -> dict[str, float]:
    return {
        "goodput_mbps": result.goodput_mbps,
        "retransmits": result.retransmits,
        "received_bytes": result.bytes,
    }


def _shares(seen: Observed) -> dict[str, float]:
    shares = {"idle_share": seen.idle_share}
    if seen.counters:
        shares["guest_idle_share"] = readings.idle_share(seen.counters["idle_ns"], seen.counters["at_ns"] / 1e9)
        shares |= per_packet(seen.counters)
    return shares


def _losses(machines: Machines, configuration: Configuration) -> dict[str, int]:
    page: Callable[[], dict[str, int]] = machines.counters if configuration.virtual else dict
    return losses(link_statistics(machines.wire(configuration)), page())


def losses(links: Mapping[str, LinkStatistics], counters: Mapping[str, int]) -> dict[str, int]:
    """Frames lost so far: in queues of links, and with counters (none: {}) for want of a descriptor, and in write()."""
    lost = {"queue_drops": sum(link.queue_drops + link.tx_dropped for link in links.values())}
    return lost | {name: counters[name] for name in ("rx_missed", "tap_write_errors") if name in counters}
