"""The paper's benchmarks with a stock guest, as short as they can be: everything is measured and counted."""

from __future__ import annotations

import json

import pytest

from lab import cli
from lab.bench import counts, idle
from lab.bench.guests import STOCK_DRIVER
from lab.bench.machines import NATIVE, mode

SENT_ALONE, RECEIVED_ALONE = 16, 14
"""Port accesses of pcnet32: 14 for an interrupt, and RAP and RDP to send."""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Runs a benchmark as the command line does, in mode optimised alone; its record."""
    only = mode("optimised")
    monkeypatch.setattr(counts, "MODE_CONFIGURATIONS", {"optimised": only})
    monkeypatch.setattr(idle, "configurations", lambda **_: {"native": {"-": NATIVE}, "optimised": {"-": only}})

    def run(name):
        file = tmp_path / f"{name}.json"
        command = ["bench", name, "--guest", "qemu", "--profile", "fast", "--quick", "--seconds", "0.5"]
        assert cli.main([*command, "--json", str(file)]) == 0
        found = json.loads(file.read_text())
        assert found["complete"] is True
        assert {sample["guest"] for sample in found["samples"]} == {"qemu"}
        return found["samples"]

    return run


def values(samples, metric, **keys):
    """The values of the samples that have these keys."""
    return [s["value"] for s in samples if s["metric"] == metric and keys.items() <= s.items()]


def test_counts_of_the_stock_driver(bench):
    """A lone packet costs what pcnet32's source says, its one interrupt included; a packet in bulk costs less."""
    samples = bench("counts")
    for direction, accesses in (("transmit", SENT_ALONE), ("receive", RECEIVED_ALONE)):
        keys = {"direction": direction, "driver": STOCK_DRIVER}
        (lone,) = values(samples, "port_accesses_per_packet", load="lone", **keys)
        (bulk,) = values(samples, "port_accesses_per_packet", load="bulk", **keys)
        (irqs,) = values(samples, "irqs_per_packet", load="lone", **keys)
        assert accesses <= lone < accesses + 2  # it looks at the link every two seconds, and handles one interrupt
        assert irqs >= 1  # a handler that the host holds up is signalled again, as a level is, and runs but once
        assert 0 < bulk < lone
        assert values(samples, "world_switches_per_packet", load="bulk", **keys)[0] > 0


def test_idle_share_beside_the_native_machine(bench):
    """Both fill in throughput and idle share; nothing is lost on the way."""
    samples = bench("idle")
    for name in ("native", "optimised"):
        assert 1 < values(samples, "goodput_mbps", configuration=name)[0] < 100
        assert 0 <= values(samples, "idle_share", configuration=name)[0] <= 1
    for metric in ("rx_missed", "tap_write_errors", "queue_drops"):
        assert sum(values(samples, metric)) == 0
