"""Benchmarks and demonstrations on a machine that is busy or late: what they measure, what they say, what goes on.

Nothing here judges speed: a loop that ends by itself makes the machine busy, a delay of a second and a half makes it
late, and a program in iperf3's place fails when it is told to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import cli, demo
from lab.bench import breakdown, transfer
from lab.bench.machines import MODE_CONFIGURATIONS, NATIVE, Machines
from lab.bench.rounds import Effort
from lab.bench.testbed import testbed as make_bed  # pytest takes test* for a test
from lab.bench.validity import attempted
from lab.load import iperf3
from machine.config import make_settings

SHORT = Effort(runs=1, seconds=0.4, warm_up=0.1, discarded=0)
LATE = """\
import sys, time
if any("lab.load.endpoint" in word for word in getattr(sys, "orig_argv", [])):
    time.sleep(1.5)
"""
BURN = "import time\nend = time.monotonic() + 40\nwhile time.monotonic() < end: pass"
SOMETIMES = """\
#!/bin/sh
case " $* " in *" -s "*) if mkdir "{mark}" 2>/dev/null || [ -n "{always}" ]; then sleep {seconds}; exit 1; fi;; esac
exec "{program}" "$@"
"""


@contextmanager
def busy_loop(cpu: int) -> Iterator[None]:
    """A program that has nothing to do with the benchmark, on one CPU; it ends by itself, and sooner with the block."""
    with subprocess.Popen([sys.executable, "-c", BURN]) as process:
        os.sched_setaffinity(process.pid, {cpu})
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture
def unreliable(tmp_path, monkeypatch):
    """Puts another iperf3 before the real one: its server fails the first time, or always; after so many seconds."""

    def put(*, always: bool = False, seconds: float = 0.0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        words = {"mark": tmp_path / "failed", "always": "1" if always else "", "seconds": seconds}
        script = SOMETIMES.format(program=iperf3.find_program("iperf3", "iperf3"), **words)
        (folder / "iperf3").write_text(script)
        (folder / "iperf3").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put


def test_a_load_that_starts_late_is_measured_when_its_bytes_flow(tmp_path, monkeypatch):
    """Both ends of nettest begin 1.5 s late: the trace is of the traffic all the same, and nothing contradicts it."""
    (tmp_path / "sitecustomize.py").write_text(LATE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with make_bed(make_settings({"profile": "paper", "driver": "linux22", "link": "100mbit"})) as bed:
        machines = Machines(bed)
        found = attempted(lambda: breakdown._divided(machines, MODE_CONFIGURATIONS["2.0"], SHORT))
    assert "valid" not in found.notes
    assert found["switching"] > 0
    assert found["tap_write"] > 0
    assert found["guest"] < 0.99
    rows = ("switching", "rap", "in_vmm", "irq_delivery", "host_irqs", "tap_write", "tap_read", "select")
    rows += ("lance_transmit", "lance_receive", "lance_status", "guest", "others", "idle")
    assert sum(found[row] for row in rows) == pytest.approx(1.0, abs=0.01)


def test_a_busy_machine_is_said_beside_the_figures(tmp_path, capsys):
    """A loop on the measured CPU: BUSY in the output, what others had in every sample, and in the report."""
    file = tmp_path / "ping.json"
    with busy_loop(make_settings({}).cpus[0]):
        words = ("--quick", "--seconds", "0.4", "--profile", "paper", "--json", str(file))
        assert cli.main(["bench", "ping", *words]) == 0
    assert "BUSY: " in (out := capsys.readouterr().out)
    assert "was others'" in out
    record = json.loads(file.read_text())
    assert record["complete"] is True
    assert max(sample["cpu_others_percent"] for sample in record["samples"]) > 5
    assert all(sample["window_seconds"] > 0 for sample in record["samples"])
    assert cli.main(["report", str(tmp_path)]) == 0
    pages = "".join(page.read_text() for page in Path(tmp_path).glob("*.html"))
    assert "BUSY: " in pages


def test_a_server_that_is_late_once_costs_a_second_attempt(unreliable, monkeypatch):
    """iperf3's server says nothing in its time, once: the transfer is made again, and its result says so."""
    monkeypatch.setattr(iperf3, "_START_SECONDS", 1.0)
    unreliable(seconds=3.0)
    with make_bed(make_settings({"link": "100mbit"})) as bed:
        found = transfer.cross_check(Machines(bed), NATIVE, "transmit", SHORT)
    assert found["iperf3_mbps"] > 0
    assert found.notes["retries"] == 1


def test_a_demonstration_goes_on_without_what_fails(unreliable, monkeypatch, capsys):
    """No iperf3 server ever starts: pings are shown, each failure has its line, and the status is 0."""
    monkeypatch.setattr(demo, "_PINGS", 5)
    monkeypatch.setattr(demo, "_MODES", ("optimised",))
    unreliable(always=True)
    assert cli.main(["demo", "--seconds", "1"]) == 0
    out = capsys.readouterr().out
    assert "ping, slowest (ms)" in out
    assert "pings lost" in out
    assert " ".join(out.split()).count("failed: iperf3 server did not start") == 6  # lines are as wide as the screen
