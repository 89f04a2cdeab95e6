"""``--guest qemu``: which benchmarks take it, what they measure then, what the report makes of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
from types import SimpleNamespace

import pytest

from lab import bench, cli
from lab.bench import counts, guests, idle, qemuload, throughput, transfer
from lab.bench.guests import STOCK_DRIVER
from lab.bench.machines import NATIVE, Machines, mode
from lab.bench.transfer import per_packet
from lab.guestconsole import Answer
from lab.guestimage import CACHE_VARIABLE
from lab.load.nettest import NettestResult
from lab.reporting import machine_time, results
from lab.reporting import throughput as throughput_section
from lab.reporting.blocks import Chart, Prose, Table
from lab.reporting.counts import counts as counts_section
from machine.config import MODES, make_settings
from machine.errors import BenchError, ConfigError, GuestError, ProcessDiedError
from tests.kit.benches import LONE_PACKET

TAKERS = (counts, idle, throughput)
NAMES = tuple(module.__name__.rpartition(".")[2] for module in TAKERS)
RESULT = NettestResult(goodput_mbps=50.0, seconds=1.0, bytes=6_000_000, retransmits=2, series=())


class Bed:
    """Takes settings; runs nothing."""

    def __init__(self, settings):
        self.settings = settings
        self.plan = SimpleNamespace(guest=None, peer=None, native=None, stations={})

    def change(self, **changes):
        self.settings = make_settings(self.settings.as_map(), changes)


@pytest.fixture
def stock(monkeypatch):
    """The three benchmarks on a stock guest that is not there."""

    def measured(machines, configuration, *_):
        assert machines.guest == "console"
        machines.bed.change(**configuration.changes)  # ConfigError for what a stock guest cannot have
        found = {"goodput_mbps": 50.0, "idle_share": 0.5, "retransmits": 0, "queue_drops": 0}
        return found | (transfer.known(machines, per_packet(LONE_PACKET)) if configuration.virtual else {})

    for module in TAKERS:
        monkeypatch.setattr(module, "testbed", lambda settings: contextlib.nullcontext(Bed(settings)))
        monkeypatch.setattr(module, "stock_guest", lambda _: contextlib.nullcontext("console"))
        monkeypatch.setattr(module, "check_guest", lambda _: None)
        monkeypatch.setattr(module, "transfer", measured)
        monkeypatch.setattr(module.preflight, "check_machine", lambda: None)
    monkeypatch.setattr(counts, "_lone", measured)


def run(name, folder, **given):
    """Runs a benchmark as the command line does; its record."""
    file = folder / f"{name}.json"
    options = {"runs": 1, "quick": True, "json": file, "guest": "qemu", "link": None, "profile": None, "seconds": None}
    assert bench.run(argparse.Namespace(bench=name, **options | given)) == 0
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_samples_say_whose_guest_it_was(stock, tmp_path, name):
    """Every one; and none has what only the built-in guest can tell."""
    samples = run(name, tmp_path)["samples"]
    assert {sample["guest"] for sample in samples} == {"qemu"}
    assert not {sample["metric"] for sample in samples} & {"pic_accesses_per_packet", "guest_idle_share"}


def test_throughput_measures_every_mode_by_iperf3(stock, tmp_path, capsys, monkeypatch):
    """Native and each mode, both ways, in both profiles; the load's column names it, and nothing checks it."""
    monkeypatch.setenv("COLUMNS", "250")  # one table, not several below each other
    samples = run("throughput", tmp_path)["samples"]
    found = {(s["profile"], s["configuration"], s["direction"]) for s in samples}
    names = ("native", *MODES)
    assert found == {(p, n, d) for p in ("paper", "fast") for n in names for d in ("transmit", "receive")}
    assert not [s for s in samples if s["metric"] == "iperf3_mbps"]
    out = capsys.readouterr().out
    assert f"driver {STOCK_DRIVER}" in out
    header = next(line for line in out.splitlines() if line.startswith("configuration"))
    assert header.count("iperf3 Mb/s") == 1
    assert "nettest Mb/s" not in header
    assert len({len(line.split()) for line in out.splitlines() if line.startswith("native ")}) == 1


def test_idle_leaves_out_where_hlt_goes(stock, tmp_path, capsys):
    """Table 3's rows once each: a stock guest's HLT is not ours to choose."""
    samples = run("idle", tmp_path)["samples"]
    assert [(s["configuration"], s["hlt"]) for s in samples if s["metric"] == "idle_share"] == [
        (name, "-") for name in ("native", "optimised", "without notification", "ports", "2.0")
    ]
    out = capsys.readouterr().out
    assert STOCK_DRIVER in out
    assert "in the paper's order" in out


def test_counts_have_one_driver(stock, tmp_path, capsys):
    """The stock one, whatever setting ``driver`` says; without accesses to the 8259A pair."""
    samples = run("counts", tmp_path)["samples"]
    assert {s["driver"] for s in samples} == {STOCK_DRIVER}
    assert {(s["load"], s["direction"]) for s in samples} == {(a, b) for a in counts.LOADS for b in transfer.DIRECTIONS}
    out = capsys.readouterr().out
    assert out.count("What a packet costs, driver") == 1
    assert not [line for line in out.splitlines() if line.startswith("paper")]


@pytest.mark.parametrize("name", sorted(set(bench.BENCHES) - set(NAMES)))
def test_other_benchmarks_refuse_it(name):
    """In one line, before anything is started."""
    options = dict.fromkeys(("runs", "json", "link", "profile", "seconds")) | {"quick": True, "guest": "qemu"}
    with pytest.raises(ConfigError, match=f"^bench {name} has no --guest$"):
        bench.run(argparse.Namespace(bench=name, **options))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_image_it_is_one_line(name, tmp_path, monkeypatch, capsys):
    """Neither a table nor a word of partial results: nothing was begun; no file is left either."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    for module in TAKERS:
        monkeypatch.setattr(module.preflight, "check_machine", lambda: None)
    file = tmp_path / "out.json"
    assert cli.main(["bench", name, "--guest", "qemu", "--json", str(file)]) != 0
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err == "worldswitch: the stock guest is not installed: run scripts/setup-guest\n"
    assert not file.exists()


def test_a_built_in_guest_needs_no_console():
    """Nothing is connected to, and nothing of its metrics is left out."""
    bed = Bed(make_settings())
    guests.check_guest(bed.settings)
    with guests.stock_guest(bed) as guest:
        assert guest is None
        assert transfer.known(Machines(bed, guest=guest), {"guest_idle_share": 0.5}) == {"guest_idle_share": 0.5}
    assert guests.guest_keys(bed.settings) == {}
    assert guests.driver_of(bed.settings) == "linux22"


class Console:
    """A guest that prints what it is told to."""

    def __init__(self, output):
        self.output = output
        self.commands = []

    def run(self, command, seconds):
        self.commands.append((command, seconds))
        return Answer(1, self.output)


def test_lone_packets_of_a_stock_guest():
    """As many pings as wanted, so far apart; a ping that did not go out is an error, no answer is none."""
    console = Console("9 packets transmitted, 0 packets received, 100% packet loss\n")
    qemuload.send_apart(console, 9, 0.03)
    ((command, seconds),) = console.commands
    assert "-c 9 -i 0.03 " in command
    assert seconds > 9 * 0.03
    with pytest.raises(BenchError, match="unreachable"):
        qemuload.send_apart(Console("ping: sendto: Network unreachable\n"), 1, 0.03)


@pytest.mark.parametrize(("configuration", "inside"), [(NATIVE, False), (mode("2.0"), True)])
def test_the_load_runs_where_it_can(monkeypatch, configuration, inside):
    """With a stock guest iperf3 carries it all: in the guest by its console, natively between two places."""
    calls = []
    monkeypatch.setattr(transfer.nettest, "measure", lambda *_, **__: pytest.fail("nettest is Python"))
    monkeypatch.setattr(transfer.iperf3, "measure", lambda *_, **keys: calls.append(keys) or RESULT)
    monkeypatch.setattr(transfer.iperf3, "tcp_result", lambda _: RESULT)
    monkeypatch.setattr(transfer, "tcp_report", lambda *given, **keys: calls.append(given[:1]) or {})
    monkeypatch.setattr(transfer, "lively", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(transfer, "_losses", lambda *_: {})
    seen = SimpleNamespace(result=lambda: transfer.Observed(1.0, 0.5, {}))
    monkeypatch.setattr(transfer, "observed", lambda *_: contextlib.nullcontext(seen))
    machines = SimpleNamespace(
        guest=SimpleNamespace(console="console"), standing=lambda _: contextlib.nullcontext(("near", "far"))
    )
    effort = SimpleNamespace(seconds=1.0, warm_up=0.3)
    metrics = transfer.transfer(machines, configuration, "transmit", effort)
    assert metrics == {"goodput_mbps": 50.0, "retransmits": 2, "received_bytes": 6_000_000, "idle_share": 0.5}
    assert calls == [("console",)] if inside else calls[0]["operation_bytes"] == 4096


def test_a_stack_that_dies_ends_the_wait_for_its_guest():
    """The console is interrupted at once, and the error is the process's death, not the guest's silence."""
    silent = threading.Event()
    reading, writing = transfer.os.pipe()
    transfer.os.close(writing)  # as a pidfd of a process that has ended: there is something to read
    stack = SimpleNamespace(pidfds={"vmm": reading}, died=lambda: "process vmm died")
    guest = SimpleNamespace(console=SimpleNamespace(interrupt=silent.set))
    machines = SimpleNamespace(bed=SimpleNamespace(stack=stack, plan=SimpleNamespace(stations={})), guest=guest)

    def wait():
        assert silent.wait(5)
        raise GuestError("the guest has ended")

    try:
        with pytest.raises(ProcessDiedError, match="vmm"), transfer.lively(machines):
            wait()
    finally:
        transfer.os.close(reading)


def test_report_shows_it_as_further_results(stock, tmp_path):
    """Tables and charts are titled by the guest, and the paper's figures are not set beside it."""
    for name in NAMES:
        run(name, tmp_path)
    found = results.load(tmp_path)
    made = [
        throughput_section.throughput(found),
        throughput_section.limits(found),
        machine_time.idle(found),
        counts_section(found),
    ]
    for section in made:
        titles = [block.caption for block in section.blocks if isinstance(block, Table)]
        assert titles
        assert all("stock" in title for title in titles)
        assert any("stock one under QEMU" in block.text for block in section.blocks if isinstance(block, Prose))
        charts = [block for block in section.blocks if isinstance(block, Chart)]
        assert charts
        assert not [series for chart in charts for series in chart.drawing.series if series.paper]
