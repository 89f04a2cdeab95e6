"""Real programs on the machines of a running stack: ping and iperf3, and what they found."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from netbackend import namespaces
from netbackend.plan import Station
from tests.kit.stack import Bed

__all__ = ["iperf3", "ping", "pinging", "tcp_transfer"]

_SEQUENCE: Final = re.compile(r"icmp_seq=(\d+) ttl=")
_PING_S: Final = 15


def ping(bed: Bed, source: str, sink: str, count: int, interval_ms: int = 2) -> int:
    """How many of ``count`` echo requests, one every ``interval_ms``, are answered."""
    with pinging(bed, source, sink, count, interval_ms) as answered:
        return answered()


@contextmanager
def pinging(bed: Bed, source: str, sink: str, count: int, interval_ms: int = 2) -> Iterator[Callable[[], int]]:
    """The same while the block goes on; what it is given waits for the end of it, and says how many.

    With -w ping waits for answers, and may send further requests meanwhile; without, it gives up two round-trip
    times after the last request, and a moment's delay would pass for a loss.
    """
    address = bed.plan.stations[sink].address
    command = ("ping", "-n", "-c", str(count), "-i", str(interval_ms / 1000), "-w", str(_PING_S), address)
    with bed.spawn(source, *command) as process:  # a loss is a status of 1, and the caller's to judge

        def answered() -> int:
            output, errors = process.communicate(timeout=_PING_S + 5)
            assert "packets transmitted" in output, errors or output
            return len({number for text in _SEQUENCE.findall(output) if (number := int(text)) <= count})

        try:
            yield answered
        finally:
            process.kill()


@contextmanager
def _server(bed: Bed, role: str) -> Iterator[subprocess.Popen[str]]:
    address = bed.plan.stations[role].address
    with bed.spawn(role, "iperf3", "-s", "-1", "-B", address, "--forceflush") as process:
        try:
            assert process.stdout is not None
            while "listening" not in (line := process.stdout.readline()):
                assert line, "iperf3 -s ended"
            yield process
        finally:
            process.kill()
            process.communicate()


def iperf3(bed: Bed, source: str, sink: str, seconds: int, *options: str) -> dict[str, Any]:
    """Sends from one machine to another for ``seconds``; what iperf3 reports at its end (section "end")."""
    address = bed.plan.stations[sink].address
    with _server(bed, sink):
        command = ("iperf3", "-c", address, "-J", "-t", str(seconds), "--connect-timeout", "3000", *options)
        report = json.loads(bed.call(source, *command, seconds=seconds + 10))
    end: dict[str, Any] = report["end"]
    return end


def tcp_transfer(bed: Bed, source: str, sink: str, seconds: int) -> tuple[dict[str, Any], int]:
    """``iperf3`` over TCP, and how many segments were lost: those sent again, but for those that then arrived twice.

    When this machine stalls, a kernel sends again what is only late (tail loss probe, RTO): nobody has lost that.
    """
    station = bed.plan.stations[sink]
    before = _duplicates(station)
    end = iperf3(bed, source, sink, seconds)
    return end, max(0, end["sum_sent"]["retransmits"] - (_duplicates(station) - before))


def _duplicates(station: Station) -> int:
    """TCP segments that a station's kernel has received though it had them, each reported to its sender by a DSACK."""

    def read() -> int:
        with open("/proc/thread-self/net/netstat", encoding="ascii") as file:
            rows = [line.split() for line in file if line.startswith("TcpExt:")]
        counts = dict(zip(*rows, strict=True))
        return int(counts["TCPDSACKOldSent"]) + int(counts["TCPDSACKOfoSent"])

    return namespaces.run(station.namespace, read)
