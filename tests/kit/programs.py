"""Real programs on the machines of a running stack: ping and iperf3, and what they found."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.kit.stack import Bed

__all__ = ["Pings", "iperf3", "ping"]


class Pings(NamedTuple):
    """What ping reports."""

    sent: int
    received: int


def ping(bed: Bed, source: str, sink: str, count: int, interval_ms: int = 2) -> Pings:
    """``count`` echo requests from one machine to another, one every ``interval_ms``."""
    address = bed.plan.stations[sink].address
    command = ("ping", "-n", "-q", "-c", str(count), "-i", str(interval_ms / 1000), "-W", "2", address)
    with bed.spawn(source, *command) as process:  # a loss is a status of 1, and the caller's to judge
        try:
            output, errors = process.communicate(timeout=10 + count * interval_ms / 1000)
        finally:
            process.kill()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    assert found, errors or output
    return Pings(int(found[1]), int(found[2]))


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
