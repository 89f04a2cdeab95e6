"""Tracing a stack that runs: a timeline with everything in it, and a stack that goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from lab.tracing.kernel import kernel_trace
from lab.tracing.record import record_stack, waiting
from machine import trace as events
from tests.kit.cli import assert_one_line, status, up, worldswitch
from tests.kit.programs import pinging
from tests.kit.stack import running

NAME = f"tr{os.getpid()}"
PINGS = 30


def slices(found: list[dict[str, Any]], category: str) -> set[str]:
    """Names of the slices of one category."""
    return {event["name"] for event in found if event["ph"] == "X" and event["cat"] == category}


def test_a_ping_in_a_timeline(tmp_path: Path) -> None:
    """`worldswitch trace` of a pinging stack shows traps, switches, interrupts and host I/O, tied by arrows."""
    path = tmp_path / "trace.json"
    with up(NAME, "--mode", "2.0"):
        ping = ("exec", "--name", NAME, "guest", "--", "ping", "-q", "-i", "0.02", "-c", "5", "198.18.0.3")
        assert worldswitch(*ping).returncode == 0
        pinging = threading.Thread(target=worldswitch, args=(*ping[:9], "-c", "60", ping[-1]))
        pinging.start()
        done = worldswitch("trace", str(path), "--name", NAME, "--seconds", "1")
        pinging.join()
        assert done.returncode == 0, done.stderr
        assert worldswitch(*ping).returncode == 0
        assert status(NAME)["counters"]["bad_requests"] == 0
    found = json.loads(path.read_text())["traceEvents"]
    assert {"OUT Lance RDP", "OUT Lance RAP", "HLT", "interrupt handler"} <= slices(found, "guest")
    assert {"OUT Lance RDP", "world switch (io)", "raise virtual IRQ"} <= slices(found, "vmm")
    assert {"host world (io)", "write() on the TAP", "read() on the TAP", "select()"} <= slices(found, "vmapp")
    assert {event["ph"] for event in found} == {"M", "X", "s", "t", "f"}
    stamps = [event["ts"] for event in found if event["ph"] != "M"]
    assert stamps == sorted(stamps)


def test_tracing_needs_a_stack_and_a_file(tmp_path: Path) -> None:
    """Each failure is one line, and leaves no file."""
    path = tmp_path / "trace.json"
    assert "absent" in assert_one_line(worldswitch("trace", str(path), "--name", NAME), 1)
    assert not path.exists()
    assert "cannot write" in assert_one_line(worldswitch("trace", str(tmp_path / "no" / "file")), 2)
    assert "--seconds" in assert_one_line(worldswitch("trace", str(path), "--seconds", "0"), 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"profile": "fast", "mode": "optimised"},
        {"doorbell": "signal", "mode": "combining"},
        {"doorbell": "semaphore", "mode": "ports", "hlt": "vmm"},
    ],
    ids=str,
)
def test_tracing_goes_on_and_off_in_any_machine(settings: dict[str, object]) -> None:
    """Whatever doorbell and driver: three traces in a row, traffic all the time, no frame lost and nobody dead."""
    with running(**settings) as bed:
        for _ in range(3):
            with pinging(bed, "guest", "peer", PINGS, 10) as answered:
                trace = record_stack(bed.stack, 0.2)
                assert answered() == PINGS
            assert trace.of(events.TRAP)
            assert trace.of(events.VMM_TRAP)
            assert trace.of(events.TAP_WRITE)
            assert trace.lost == 0
        bed.alive()


def test_scheduling_is_recorded_where_the_kernel_lets_us() -> None:
    """Either there are switches of the CPU, or a reason; and the instance in tracefs is gone afterwards."""
    with kernel_trace(sorted(os.sched_getaffinity(0))) as kernel:
        waiting(0.1)(lambda: None)
    assert bool(kernel.switches) != bool(kernel.missing)
    with kernel_trace([0]) as again:  # the name is free again
        pass
    assert (again.missing is None) == (kernel.missing is None)
