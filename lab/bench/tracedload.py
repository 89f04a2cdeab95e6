"""A trace of a stack under a load, for the experiments that read traces."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from lab.bench.machines import Configuration, Machines
from lab.bench.paper import OPERATION_BYTES
from lab.bench.rounds import Effort
from lab.bench.transfer import lively
from lab.bench.window import TAIL_SECONDS
from lab.load import datagrams, nettest
from lab.load.cpu import CpuUse, watched
from lab.load.place import Place
from lab.tracing.record import Trace, record_stack
from machine.errors import WorldswitchError

__all__ = ["LOADS", "traced", "transmitting"]

LOADS: Final = {"lone": "lone packets, 200 a second", "loaded": "TCP transmit that fills the wire"}

_INTERVAL: Final = 0.005
_SETTLE_SECONDS: Final = 0.5  # until the sender's program has started and bytes flow
_GRACE_SECONDS: Final = 15.0


def traced(machines: Machines, configuration: Configuration, load: str, effort: Effort) -> tuple[Trace, CpuUse]:
    """The trace of ``effort.seconds`` under a load of ``LOADS``, and what machine A's CPUs did meanwhile."""
    make = _lone if load == "lone" else transmitting
    with lively(machines), machines.standing(configuration) as places, make(*places, effort):
        time.sleep(_SETTLE_SECONDS + effort.warm_up)
        with watched(machines.cpus) as use:
            trace = record_stack(machines.bed.stack, effort.seconds)
    return trace, use


def _lasting(effort: Effort) -> float:
    return _SETTLE_SECONDS + effort.warm_up + effort.seconds + 2 * TAIL_SECONDS


@contextlib.contextmanager
def _lone(near: Place, far: Place, effort: Effort) -> Iterator[None]:
    count = int(_lasting(effort) / _INTERVAL)
    with datagrams.sink(far) as port, _beside(lambda: datagrams.send(near, far, port, count=count, interval=_INTERVAL)):
        yield


@contextlib.contextmanager
def transmitting(near: Place, far: Place, effort: Effort) -> Iterator[None]:
    """The paper's load (section 3.2), for longer than the block may take that measures it."""
    lasting = _lasting(effort)
    with _beside(
        lambda: nettest.measure(
            near, far, seconds=lasting, operation_bytes=OPERATION_BYTES, max_seconds=lasting + _GRACE_SECONDS
        )
    ):
        yield


@contextlib.contextmanager
def _beside(load: Callable[[], object]) -> Iterator[None]:
    """Runs ``load`` in a thread of its own; its failure is the block's."""
    failures: list[WorldswitchError] = []

    def work() -> None:
        try:
            load()
        except WorldswitchError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]
