"""The same measurements by iperf3, a public tool, to check ours against; and UDP at a given rate.

Source of the report's fields: iperf3 3.12, src/iperf_api.c (iperf_print_results) and its JSON output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.load.nettest import NettestResult
from lab.load.place import Place, find_program, first_line, output, started
from lab.load.retry import once_more
from lab.readings import megabits
from machine.errors import BenchError

__all__ = ["UdpResult", "measure", "measure_udp", "parse", "served", "tcp_result", "udp_result"]

_CONNECT_MILLISECONDS: Final = 3000
_START_SECONDS: Final = 10.0
_DEFAULT_OPERATION_BYTES: Final = 131072  # iperf3's own default for TCP
_LARGEST_DATAGRAM: Final = 1472  # bytes: MTU 1500 less the headers of IPv4 and UDP


@dataclass(frozen=True, slots=True)
class UdpResult:
    """What became of datagrams sent at a rate. ``goodput_mbps``: payload that arrived, 10^6 bit/s.

    ``sent``, ``lost``, ``out_of_order``: datagrams. ``jitter_ms``: RFC 1889's, at the receiver. ``retries``: how often
    the load had failed before.
    """

    goodput_mbps: float
    seconds: float
    sent: int
    lost: int
    out_of_order: int
    jitter_ms: float
    retries: int = 0


def measure(
    sender: Place,
    receiver: Place,
    *,
    seconds: float = 10.0,
    total_bytes: int | None = None,
    operation_bytes: int = _DEFAULT_OPERATION_BYTES,
    omit: float = 0.0,
    max_seconds: float = 60.0,
) -> NettestResult:
    """As ``nettest.measure``, but iperf3 knows whole seconds only (rounded up), and no limit both of time and amount.

    With ``total_bytes``, ``seconds`` does not count, and a warm-up is not possible. SetupError without iperf3.
    """
    if total_bytes is None:
        options = ["-t", str(math.ceil(seconds)), "-O", str(math.ceil(omit))]
    else:
        options = ["-n", str(total_bytes)]
    return tcp_result(_run(sender, receiver, max_seconds, "-l", str(operation_bytes), *options))


def measure_udp(
    sender: Place,
    receiver: Place,
    rate: int,
    *,
    payload_bytes: int = _LARGEST_DATAGRAM,
    seconds: float = 10.0,
    max_seconds: float = 60.0,
) -> UdpResult:
    """Sends datagrams of ``payload_bytes`` at ``rate`` bit/s of payload for ``seconds`` (whole ones, rounded up)."""
    options = ("-u", "-b", str(rate), "-l", str(payload_bytes), "-t", str(math.ceil(seconds)))
    return udp_result(_run(sender, receiver, max_seconds, *options))


def _run(sender: Place, receiver: Place, max_seconds: float, *options: str) -> dict[str, Any]:
    """iperf3's report, after a second attempt if need be."""

    def client(program: str) -> dict[str, Any]:
        call = [program, "-c", receiver.address, "-J", "--connect-timeout", str(_CONNECT_MILLISECONDS), *options]
        with started(call, sender) as process:
            return parse(output(process, "iperf3 client", max_seconds, good=(0, 1)))

    return served(receiver, client)


def served(receiver: Place, client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The report that ``client``, given the program's path, gets of a server at ``receiver``.

    One server for one test, gone afterwards whatever happens; both once more if they fail. The report says in
    "retries" how often they did. SetupError without iperf3, BenchError if they fail twice.
    """
    program = find_program("iperf3", "iperf3")

    def attempt() -> dict[str, Any]:
        with started([program, "-s", "-1", "-B", receiver.address, "--forceflush"], receiver) as server:
            while "listening" not in first_line(server, "iperf3 server", _START_SECONDS):
                pass
            return client(program)

    report, retries = once_more(attempt)
    return report | {"retries": retries}


def parse(text: str) -> dict[str, Any]:
    """iperf3 -J's report; BenchError with its own words if the test failed."""
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        raise BenchError(f"iperf3 printed no report: {text.strip()[-200:]!r}") from None
    if "error" in report:
        raise BenchError(f"iperf3 failed: {report['error']}")
    return report


def tcp_result(report: dict[str, Any]) -> NettestResult:
    """What a report of a TCP test says, as its receiver saw it."""
    try:
        received, sent = report["end"]["sum_received"], report["end"]["sum_sent"]
        series = [_mbps(interval["sum"]) for interval in report["intervals"] if not interval["sum"]["omitted"]]
        return NettestResult(
            goodput_mbps=_mbps(received),
            seconds=received["seconds"],
            bytes=received["bytes"],
            retransmits=sent["retransmits"],
            series=tuple(series),
            retries=report.get("retries", 0),
        )
    except (KeyError, TypeError) as error:
        raise _unreadable(error) from None


def udp_result(report: dict[str, Any]) -> UdpResult:
    """What a report of a UDP test says; the one stream's figures are the receiver's."""
    try:
        streams: Sequence[dict[str, Any]] = report["end"]["streams"]
        udp = streams[0]["udp"]
        arrived = (udp["packets"] - udp["lost_packets"]) / udp["packets"] if udp["packets"] else 0.0
        return UdpResult(
            goodput_mbps=_mbps(udp) * arrived,
            seconds=udp["seconds"],
            sent=udp["packets"],
            lost=udp["lost_packets"],
            out_of_order=udp["out_of_order"],
            jitter_ms=udp["jitter_ms"],
            retries=report.get("retries", 0),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise _unreadable(error) from None


def _mbps(part: dict[str, Any]) -> float:
    return megabits(float(part["bits_per_second"]))


def _unreadable(error: Exception) -> BenchError:
    return BenchError(f"iperf3's report lacks {error}; this was made for iperf3 3.9 to 3.16")
