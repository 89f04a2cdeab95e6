"""What a stack does per second: two samples of its counters, and their difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from lab.portnames import port_name
from machine.ports import LANCE_DEFAULT_BASE

__all__ = ["PortRate", "Rates", "Sample", "rates_between"]

_BITS: Final = 8
_MOSTLY: Final = 50.0  # per cent


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A stack at the moment ``at`` (seconds, CLOCK_MONOTONIC): a status answer (``lab.status.measure``), CPU loads.

    ``cpu``: role -> per cent of one CPU since the sample before.
    """

    at: float
    status: Mapping[str, Any]
    cpu: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class PortRate:
    """One port: accesses per second, the share of time that they took, and ns for each."""

    name: str
    per_second: float
    share: float
    ns_each: float


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """Per second: ``counters`` (``lab.status.COUNTER_NAMES``), ``sent`` and ``received`` in Mb/s. Shares are 0 to 1."""

    seconds: float
    counters: Mapping[str, float]
    sent_mbps: float
    received_mbps: float
    guest_idle: float
    host_world: float
    cpu: Mapping[str, float]
    ports: tuple[PortRate, ...]


def rates_between(before: Sample, after: Sample) -> Rates:
    """What happened between two samples of one stack."""
    seconds = max(after.at - before.at, 1e-9)
    new, old = after.status["counters"], before.status["counters"]
    per_second = {name: max(0, new[name] - old.get(name, 0)) / seconds for name in new}
    return Rates(
        seconds=seconds,
        counters=per_second,
        sent_mbps=per_second["tx_bytes"] * _BITS / 1e6,
        received_mbps=per_second["rx_bytes"] * _BITS / 1e6,
        guest_idle=_guest_idle(per_second, after.cpu.get("guest", 0.0), foreign=after.status.get("foreign", False)),
        host_world=_host_world(per_second),
        cpu=after.cpu,
        ports=tuple(
            _port_rates(
                before.status["ports"], after.status["ports"], seconds, after.status.get("lance", LANCE_DEFAULT_BASE)
            )
        ),
    )


def _guest_idle(per_second: Mapping[str, float], guest_cpu: float, *, foreign: bool) -> float:
    """A HLT is counted when it ends. A guest that neither halts nor traps has done one thing all the time.

    A foreign guest's HLT is not seen: it is idle when its process is.
    """
    if foreign:
        return max(0.0, 1 - guest_cpu / 100)
    if not any(per_second[name] for name in ("hlt", "io_in", "io_out", "idle_ns")):
        return 1.0 if guest_cpu < _MOSTLY else 0.0
    return min(1.0, per_second["idle_ns"] / 1e9)


def _host_world(per_second: Mapping[str, float]) -> float:
    """A stay in the host world is counted when it ends; its calls of select() before that."""
    if not per_second["world_switches"] and not per_second["host_world_ns"]:
        return 1.0 if per_second["selects"] else 0.0
    return min(1.0, per_second["host_world_ns"] / 1e9)


def _port_rates(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, lance: int) -> list[PortRate]:
    """Ports that were accessed; ports of one name are one."""
    sums: dict[str, tuple[int, int]] = {}
    nothing = {"reads": 0, "writes": 0, "ns": 0}
    for label, new in after.items():
        spent = {key: new[key] - value for key, value in before.get(label, nothing).items()}
        name = port_name(label, lance)
        count, ns = sums.get(name, (0, 0))
        sums[name] = count + spent["reads"] + spent["writes"], ns + spent["ns"]
    return [
        PortRate(name, count / seconds, ns / seconds / 1e9, ns / count)
        for name, (count, ns) in sums.items()
        if count > 0
    ]
