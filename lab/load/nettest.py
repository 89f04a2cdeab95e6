"""TCP goodput in the way the paper measured it (section 4): ``measure``, or ``python -m lab.load.nettest``.

By hand: ``nettest server ADDRESS`` on one machine prints its port, ``nettest client ADDRESS PORT`` on another sends.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from lab.load.endpoint import DEFAULT_LIMIT_SECONDS, DEFAULT_OPERATION_BYTES, main
from lab.load.place import Place, first_line, output, python_module, started
from lab.load.retry import once_more
from lab.readings import mbps
from machine.errors import BenchError, ConfigError

__all__ = ["NettestResult", "main", "measure", "result_of"]

_START_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 5.0
_SHORTEST_SECOND: Final = 0.5  # a last one that is shorter says too little


@dataclass(frozen=True, slots=True)
class NettestResult:
    """What one TCP connection carried, as its receiver saw it, without the warm-up.

    ``goodput_mbps``: TCP payload, 10^6 bit/s. ``seconds``, ``bytes``: what that is the quotient of. ``series``: the
    goodput of each second, the last perhaps a shorter one. ``retransmits``: segments the sender's TCP sent again.
    ``retries``: how often the load had failed before.
    """

    goodput_mbps: float
    seconds: float
    bytes: int
    retransmits: int
    series: tuple[float, ...]
    retries: int = 0


def measure(
    sender: Place,
    receiver: Place,
    *,
    seconds: float = 10.0,
    total_bytes: int | None = None,
    operation_bytes: int = DEFAULT_OPERATION_BYTES,
    omit: float = 0.0,
    max_seconds: float = DEFAULT_LIMIT_SECONDS,
) -> NettestResult:
    """Sends for ``omit + seconds``, or ``total_bytes`` if that is over sooner; swap the places for the other way.

    BenchError if the connection fails twice, ends within the warm-up, or has not drained after ``max_seconds``;
    ConfigError if it can't have by then.
    """
    if total_bytes is None and omit + seconds >= max_seconds:
        raise ConfigError(f"nettest cannot send for {omit + seconds:g} s within {max_seconds:g} s; allow more")
    common = ("--operation", operation_bytes, "--limit", max_seconds, "--omit", omit)
    amount = () if total_bytes is None else ("--bytes", total_bytes)
    serve = python_module("lab.load.endpoint", "server", receiver.address, *common)

    def attempt() -> NettestResult:
        with started(serve, receiver) as server:
            port = first_line(server, "nettest server", _START_SECONDS)
            options = (*common, "--seconds", seconds, *amount)
            call = python_module("lab.load.endpoint", "client", receiver.address, port, *options)
            with started(call, sender) as client:
                sent = json.loads(output(client, "nettest client", max_seconds + _GRACE_SECONDS))
            received = json.loads(output(server, "nettest server", max_seconds + _GRACE_SECONDS))
        return result_of(sent, received, max_seconds)

    result, retries = once_more(attempt)
    return replace(result, retries=retries)


def result_of(sent: dict[str, Any], received: dict[str, Any], max_seconds: float) -> NettestResult:
    """The result from what the two ends printed (``lab.load.endpoint``)."""
    if not received["complete"] or not sent["complete"]:
        raise BenchError(f"nettest did not finish within {max_seconds:g} s; allow more, or send less")
    if not received["seconds"]:
        raise BenchError("nettest ended within its warm-up; send for longer, or more")
    return NettestResult(
        goodput_mbps=mbps(received["bytes"], received["seconds"]),
        seconds=received["seconds"],
        bytes=received["bytes"],
        retransmits=sent["retransmits"],
        series=_series(received["marks"], received["bytes"], received["seconds"]),
    )


def _series(marks: list[int], total: int, seconds: float) -> tuple[float, ...]:
    rates = [mbps(after - before, 1.0) for before, after in pairwise((0, *marks))]
    rest = seconds - len(marks)
    if rest >= _SHORTEST_SECOND:
        rates.append(mbps(total - (marks[-1] if marks else 0), rest))
    return tuple(rates)


if __name__ == "__main__":
    sys.exit(main())
