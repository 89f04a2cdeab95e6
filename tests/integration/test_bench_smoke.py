"""Benchmarks on real stacks, each as short as it can be: everything is measured, recorded, and gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import MappingProxyType

import pytest

from lab import cli
from lab.bench import counts, idle, sweep, throughput, transfer
from lab.bench.machines import MODE_CONFIGURATIONS, NATIVE, Machines
from lab.bench.rounds import Effort
from lab.bench.testbed import testbed as make_bed  # pytest takes test* for a test
from lab.cgroup import CpuGroup
from machine.config import make_settings
from machine.errors import ProcessDiedError, SetupError
from netbackend import namespaces
from tests.kit.cli import COMMAND

OPTIMISED = MODE_CONFIGURATIONS["optimised"]
SHORT = Effort(runs=1, seconds=0.4, warm_up=0.1, discarded=0)


def bench(name: str, tmp_path: Path, *options: str) -> dict:
    """The record of a quick benchmark, run as the command line runs it."""
    file = tmp_path / "out.json"
    assert cli.main(["bench", name, "--quick", "--seconds", "0.4", "--json", str(file), *options]) == 0
    record = json.loads(file.read_text())
    assert record["complete"] is True
    return record


def values(record: dict, metric: str, **keys: object) -> list[float]:
    """The values of the samples that have these keys."""
    return [s["value"] for s in record["samples"] if s["metric"] == metric and keys.items() <= s.items()]


def test_throughput_on_a_real_stack(tmp_path, monkeypatch, capsys):
    """Native and optimised, both ways: bytes arrive, nothing is lost, packets have their costs, shares are shares."""
    series = throughput.Series(make_settings({"link": "100mbit"}), (NATIVE, OPTIMISED))
    monkeypatch.setattr(throughput, "series_of", lambda *_, **__: [series])
    monkeypatch.setattr(throughput.shutil, "which", lambda _: None)
    record = bench("throughput", tmp_path)
    goodput = values(record, "goodput_mbps")
    assert len(goodput) == 4
    assert all(1 < value < 100 for value in goodput)
    assert all(0 <= share <= 1 for share in values(record, "idle_share"))
    assert all(cost > 0 for cost in values(record, "traps_per_packet", configuration="optimised"))
    assert not values(record, "traps_per_packet", configuration="native")
    assert sum(values(record, "rx_missed") + values(record, "tap_write_errors") + values(record, "queue_drops")) == 0
    assert "TCP, link 100mbit" in capsys.readouterr().out


def test_iperf3_sees_the_same_path():
    """The cross-check measures a real transfer."""
    with make_bed(make_settings({"link": "100mbit"})) as bed:
        assert 0 < transfer.cross_check(Machines(bed), NATIVE, "transmit", SHORT)["iperf3_mbps"] < 100


def test_bare_paths_carry_traffic():
    """The relay takes the guest's place on a network of its own; the stack stands by."""
    with (
        make_bed(make_settings({"link": "none", "profile": "fast"})) as bed,
        throughput.bare_network("none") as bare,
    ):
        metrics = transfer.transfer(Machines(bed, bare), throughput.RELAY, "transmit", SHORT)
    assert metrics["goodput_mbps"] > 1
    assert "traps_per_packet" not in metrics


def cpu_group_works() -> bool:
    """Whether this machine lets us hold processes to a share of CPU."""
    try:
        with CpuGroup(f"worldswitch-test-{os.getpid()}", 0.5):
            return True
    except SetupError:
        return False


def test_sweep_holds_machine_a_to_half(tmp_path, monkeypatch):
    """With half of the CPU, the CPU idles half the time or more; the group is gone afterwards."""
    if not cpu_group_works():
        pytest.skip("no writable cpu controller")
    monkeypatch.setattr(sweep, "_QUICK_SIZES", (4096,))
    monkeypatch.setattr(sweep, "_CONFIGURATIONS", (OPTIMISED,))
    record = bench("sweep", tmp_path)
    (full,), (half,) = (values(record, "goodput_mbps", cpu=share) for share in ("full", "half"))
    assert 0 < half < full
    assert not list(Path("/sys/fs/cgroup").glob(f"**/worldswitch-{os.getpid()}"))


def test_idle_on_a_real_stack(tmp_path, monkeypatch, capsys):
    """Native and optimised with HLT in the vmm; the guest counts idle time of its own."""
    every = idle.configurations()
    few = {"native": every["native"], "optimised": {"vmm": every["optimised"]["vmm"]}}
    monkeypatch.setattr(idle, "configurations", lambda *, foreign: few)
    monkeypatch.setattr(idle, "_is_bound", lambda _: True)
    record = bench("idle", tmp_path)
    assert len(values(record, "idle_share", hlt="-")) == len(values(record, "idle_share", hlt="vmm")) == 1
    assert 0 <= values(record, "guest_idle_share", hlt="vmm")[0] <= 1
    assert "paper: idle %" in capsys.readouterr().out


def test_counts_find_the_papers_figures(tmp_path, monkeypatch):
    """A lone packet: 12 port accesses, 5 of them world switches, one interrupt; 5 PIC accesses each."""
    monkeypatch.setattr(counts, "MODE_CONFIGURATIONS", MappingProxyType({"2.0": MODE_CONFIGURATIONS["2.0"]}))
    monkeypatch.setattr(counts, "DIRECTIONS", ("transmit",))
    monkeypatch.setattr(counts, "_DRIVERS", ("linux22",))
    record = bench("counts", tmp_path)
    lone = {"load": "lone", "direction": "transmit"}
    assert values(record, "port_accesses_per_packet", **lone) == [12]
    assert values(record, "irqs_per_packet", **lone) == [1]
    assert values(record, "io_switches_per_packet", **lone) == [5]
    assert values(record, "pic_accesses_per_irq", **lone) == [5]
    assert values(record, "pic_accesses_per_irq", load="bulk")[0] == pytest.approx(5, abs=0.2)


def test_a_stack_that_dies_is_named_at_once():
    """A process killed in the midst of a transfer: the error says which, long before the transfer's own limit."""
    with make_bed(make_settings({"link": "100mbit"})) as bed:
        killer = threading.Timer(0.6, signal.pidfd_send_signal, (bed.stack.pidfds["vmm"], signal.SIGKILL))
        started = time.monotonic()
        killer.start()
        with pytest.raises(ProcessDiedError, match="vmm"):
            transfer.transfer(Machines(bed), OPTIMISED, "transmit", Effort(1, 5.0, 0.1, 0))
        assert time.monotonic() - started < 4.0
        killer.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_keeps_what_it_has(tmp_path, number):
    """Ctrl-C and SIGTERM in the second measurement: status 130, marked results, no namespace left."""
    file = tmp_path / "out.json"
    words = ("bench", "idle", "--quick", "--seconds", "0.4", "--json", str(file))
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line.startswith("2/") for line in process.stderr)
        process.send_signal(number)
        try:
            out, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "worldswitch: interrupted"
    assert out.startswith("Partial results")
    record = json.loads(file.read_text())
    assert record["complete"] is False
    assert {s["configuration"] for s in record["samples"]} == {"native"}
    assert namespaces.identity(f"ws-bench-{process.pid}-guest") is None
