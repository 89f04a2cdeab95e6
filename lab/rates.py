"""What a stack does per second: two samples of its counters, and their difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from lab.portnames import port_name
from lab.readings import growth, idle_share, mbps
from machine.ports import LANCE_DEFAULT_BASE

__all__ = ["PortRate", "Rates", "Sample", "rates_between"]

_NS: Final = 1e9
_MOSTLY: Final = 50.0  # per cent
_MAY_SHRINK: Final = frozenset(("io_handled_in_vmm",))  # a difference of counters that are read one after the other


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A stack at the moment ``at`` (seconds, CLOCK_MONOTONIC): a status answer (``lab.status.measure``), CPU loads.

    ``cpu``: role -> per cent of one CPU since the sample before.
    """

    at: float
    status: Mapping[str, Any]
    cpu: Mapping[str, float]

    @property
    def read_at(self) -> float:
        """When the counters were read, as the answer says: it may have taken a while to come."""
        at = self.status.get("at_ns")
        return at / _NS if isinstance(at, int) else self.at


@dataclasses.dataclass(frozen=True, slots=True)
class PortRate:
    """One port: accesses per second, the share of time that they took, and ns for each."""

    name: str
    per_second: float
    share: float
    ns_each: float


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """Per second: ``counters`` (``lab.status.COUNTER_NAMES``), ``sent`` and ``received`` in Mb/s. Shares are 0 to 1.

    ``seconds``: of the interval that all this is of; 0 if no time has passed, and then there are no rates. ``anew``:
    a counter went backwards, so that what it counts from, and since when, is another stack's affair: its rate is a
    lower bound.
    """

    seconds: float
    counters: Mapping[str, float]
    sent_mbps: float
    received_mbps: float
    guest_idle: float
    host_world: float
    cpu: Mapping[str, float]
    ports: tuple[PortRate, ...]
    anew: bool = False


def rates_between(before: Sample, after: Sample) -> Rates:
    """What happened between two samples of one stack."""
    seconds = max(0.0, after.read_at - before.read_at)
    new, old = after.status["counters"], before.status["counters"]
    per_second = {name: _since(old.get(name, 0), value) / seconds if seconds else 0.0 for name, value in new.items()}
    lance = after.status.get("lance", LANCE_DEFAULT_BASE)
    return Rates(
        seconds=seconds,
        counters=per_second,
        sent_mbps=mbps(per_second["tx_bytes"], 1.0),
        received_mbps=mbps(per_second["rx_bytes"], 1.0),
        guest_idle=_guest_idle(per_second, after.cpu.get("guest", 0.0), foreign=after.status.get("foreign", False)),
        host_world=_host_world(per_second),
        cpu=after.cpu,
        ports=tuple(_port_rates(before.status["ports"], after.status["ports"], seconds, lance)) if seconds else (),
        anew=any(growth(old.get(name, 0), value) is None for name, value in new.items() if name not in _MAY_SHRINK),
    )


def _since(before: int, after: int) -> int:
    """What was counted between two readings; of a counter that began anew, since it did."""
    grown = growth(before, after)
    return max(0, after) if grown is None else grown


def _guest_idle(per_second: Mapping[str, float], guest_cpu: float, *, foreign: bool) -> float:
    """A HLT is counted when it ends. A guest that neither halts nor traps has done one thing all the time.

    A foreign guest's HLT is not seen: it is idle when its process is.
    """
    if foreign:
        return max(0.0, 1 - guest_cpu / 100)
    if not any(per_second[name] for name in ("hlt", "io_in", "io_out", "idle_ns")):
        return 1.0 if guest_cpu < _MOSTLY else 0.0
    return idle_share(per_second["idle_ns"], 1.0)


def _host_world(per_second: Mapping[str, float]) -> float:
    """A stay in the host world is counted when it ends; its calls of select() before that."""
    if not per_second["world_switches"] and not per_second["host_world_ns"]:
        return 1.0 if per_second["selects"] else 0.0
    return min(1.0, per_second["host_world_ns"] / _NS)


def _port_rates(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, lance: int) -> list[PortRate]:
    """Ports that were accessed; ports of one name are one. An access that takes longer than the interval fills it."""
    sums: dict[str, tuple[int, int]] = {}
    nothing = {"reads": 0, "writes": 0, "ns": 0}
    for label, new in after.items():
        spent = {key: _since(value, new[key]) for key, value in before.get(label, nothing).items()}
        name = port_name(label, lance)
        count, ns = sums.get(name, (0, 0))
        sums[name] = count + spent["reads"] + spent["writes"], ns + spent["ns"]
    return [
        PortRate(name, count / seconds, min(1.0, ns / seconds / _NS), ns / count)
        for name, (count, ns) in sums.items()
        if count > 0
    ]
