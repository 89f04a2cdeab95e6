"""A trace of a stack under a load, for the experiments that read traces.

The trace begins when the load's bytes flow and ends before the load does. On a busy machine the load's program may take
seconds to start; a trace of that time would show a guest that has nothing to do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from lab.bench import validity
from lab.bench.machines import Configuration, Machines
from lab.bench.paper import OPERATION_BYTES
from lab.bench.rounds import Effort
from lab.bench.transfer import lively
from lab.bench.window import FLOWING_BYTES, TAIL_SECONDS, Flow, Observed, between, flow, reading, watching
from lab.load import datagrams, nettest
from lab.load.place import Place
from lab.tracing.record import Trace, buffers_of_stack, collect, waiting
from lab.tracing.switch import switch_tracing
from machine import trace as events
from machine.errors import BenchError, WorldswitchError

__all__ = ["LOADS", "Traced", "traced", "transmitting"]

LOADS: Final = {"lone": "lone packets, 200 a second", "loaded": "TCP transmit that fills the wire"}

_INTERVAL: Final = 0.005
_SETTLE_SECONDS: Final = 0.5  # more load than is measured: it takes a while to see that bytes flow
_FLOWING: Final = {"lone": 300, "loaded": FLOWING_BYTES}  # a few datagrams; more than a handshake
_START_SECONDS: Final = 20.0  # for bytes to flow: nettest's own limits are shorter
_GRACE_SECONDS: Final = 15.0

_Load = Callable[[Place, Place, Effort], contextlib.AbstractContextManager[threading.Event]]


class Traced(NamedTuple):
    """A trace, and what was observed of machine A meanwhile; ``faults``: what contradicts them."""

    trace: Trace
    seen: Observed
    faults: tuple[str, ...]


def traced(machines: Machines, configuration: Configuration, load: str, effort: Effort) -> Traced:
    """The trace of ``effort.seconds`` under a load of ``LOADS``. BenchError if no bytes flow, or not until its end."""
    make: _Load = _lone if load == "lone" else transmitting
    with (
        lively(machines),
        machines.standing(configuration) as places,
        flow(machines, configuration) as wire,
        make(*places, effort) as over,
    ):
        if not wire.begins(over, _FLOWING[load], _START_SECONDS):
            raise BenchError(f"no traffic flowed ({LOADS[load]})")
        over.wait(effort.warm_up)
        return _recorded(machines, configuration, effort.seconds, wire, over)


def _recorded(
    machines: Machines, configuration: Configuration, seconds: float, wire: Flow, over: threading.Event
) -> Traced:
    """The trace and, of the very same time, everything else: what the trace is made of afterwards takes time, too."""
    stack = machines.bed.stack
    seen: list[Observed] = []
    faults: list[str] = []

    def window(drain: Callable[[], None]) -> None:
        begin = reading(machines, configuration, wire)
        with watching(machines) as attended:
            waiting(seconds)(drain)
        end = reading(machines, configuration, wire)
        if over.is_set():
            faults.append("the load ended before the trace did")
        seen.append(between(begin, end, attended))

    trace = collect(buffers_of_stack(stack), lambda on: switch_tracing(stack, on and seconds), window)
    (one,) = seen
    return Traced(trace, one, (*faults, *one.faults(), *_of_trace(trace, one.counters)))


def _of_trace(trace: Trace, counters: dict[str, int]) -> Iterator[str]:
    """The frames that the trace holds are those that were counted, unless records were lost."""
    if trace.lost:
        return
    written, counted = len(trace.of(events.TAP_WRITE)), counters["tx_frames"]
    yield from validity.of_packets(counted, written, "the trace holds")


def _lasting(effort: Effort) -> float:
    return _SETTLE_SECONDS + effort.warm_up + effort.seconds + 2 * TAIL_SECONDS


@contextlib.contextmanager
def _lone(near: Place, far: Place, effort: Effort) -> Iterator[threading.Event]:
    count = int(_lasting(effort) / _INTERVAL)
    with (
        datagrams.sink(far) as port,
        _beside(lambda: datagrams.send(near, far, port, count=count, interval=_INTERVAL)) as over,
    ):
        yield over


@contextlib.contextmanager
def transmitting(near: Place, far: Place, effort: Effort) -> Iterator[threading.Event]:
    """The paper's load (section 3.2), for longer than the block may take that measures it.

    Yields an event that is set when the load is over.
    """
    lasting = _lasting(effort)
    with _beside(
        lambda: nettest.measure(
            near, far, seconds=lasting, operation_bytes=OPERATION_BYTES, max_seconds=lasting + _GRACE_SECONDS
        )
    ) as over:
        yield over


@contextlib.contextmanager
def _beside(load: Callable[[], object]) -> Iterator[threading.Event]:
    """Runs ``load`` in a thread of its own; its failure is the block's. Yields an event: it is over."""
    failures: list[WorldswitchError] = []
    over = threading.Event()

    def work() -> None:
        try:
            load()
        except WorldswitchError as error:
            failures.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield over
    finally:
        thread.join()
    if failures:
        raise failures[0]
