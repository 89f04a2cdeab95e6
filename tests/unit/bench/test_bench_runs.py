"""Whole benchmarks on a testbed that is not there: what is measured in what order, recorded and printed."""

from __future__ import annotations

import argparse
import contextlib
import json
from itertools import pairwise
from types import SimpleNamespace

import pytest

from lab import bench
from lab.bench import counts, idle, sweep, throughput
from lab.bench.machines import NATIVE, RELAY, VDE, mode
from lab.bench.transfer import per_packet
from machine.config import make_settings
from machine.errors import BenchError, ConfigError, ProcessDiedError
from tests.kit.benches import LONE_PACKET

GOODPUT = {"native": 94.0, "2.0": 64.0, "ports": 90.0, "combining": 94.0, "optimised": 94.0}
IDLE = {"native": 0.86, "optimised": 0.2, "combining": 0.2, "without notification": 0.18, "ports": 0.02, "2.0": 0.0}


class FakeBed:
    """Takes settings and link rates; runs nothing."""

    def __init__(self, settings):
        self.settings = settings
        self.links = []
        self.set_link = self.links.append


def fake_transfer(machines, configuration, direction, effort, operation_bytes=4096):
    """What a transfer gives, by its configuration alone."""
    name = configuration.name
    found = {"goodput_mbps": GOODPUT.get(name, 94.0), "idle_share": IDLE[name], "retransmits": 0, "queue_drops": 1}
    return found | (per_packet(LONE_PACKET) if configuration.virtual else {})


@pytest.fixture
def lab(monkeypatch):
    """Every benchmark with a testbed, loads and control groups that are not there; the calls it makes."""
    calls = []

    def transfer(*args, **keys):
        calls.append(args[1:])
        return fake_transfer(*args, **keys)

    @contextlib.contextmanager
    def testbed(settings):
        yield FakeBed(settings)

    for module in (counts, idle, sweep, throughput):
        monkeypatch.setattr(module, "testbed", testbed)
        monkeypatch.setattr(module, "transfer", transfer)
        monkeypatch.setattr(module.preflight, "check_machine", lambda: None)
    monkeypatch.setattr(throughput, "bare_network", lambda link: contextlib.nullcontext())
    monkeypatch.setattr(throughput, "cross_check", lambda *_: {"iperf3_mbps": 93.0})
    monkeypatch.setattr(throughput.shutil, "which", lambda _: "/usr/bin/iperf3")
    monkeypatch.setattr(sweep, "_held", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(sweep, "_check_groups", lambda: None)
    monkeypatch.setattr(counts, "_lone", lambda *_: per_packet(LONE_PACKET))
    return SimpleNamespace(calls=calls, patch=monkeypatch)


def run(name, tmp_path, **given):
    """Runs a benchmark as the command line does; its record."""
    file = tmp_path / "out.json"
    options = {"runs": 2, "quick": False, "json": file, "guest": None, "link": None, "profile": None, "seconds": None}
    assert bench.run(argparse.Namespace(bench=name, **options | given)) == 0
    return json.loads(file.read_text())


def keys_of(record, metric="goodput_mbps"):
    """The samples of one metric."""
    return [sample for sample in record["samples"] if sample["metric"] == metric]


def test_throughput_measures_what_the_issue_lists(lab, tmp_path, capsys):
    """100 Mb/s in the paper's profile with all modes, 1 Gb/s in the fast one with the ends; both ways, twice."""
    record = run("throughput", tmp_path)
    assert record["complete"] is True
    samples = keys_of(record)
    assert {(s["link"], s["profile"]) for s in samples} == {("100mbit", "paper"), ("1gbit", "fast")}
    assert len(samples) == 2 * 2 * (5 + 3)
    assert set(samples[0]) == {"configuration", "metric", "unit", "value", "run", "direction", "link", "profile"}
    assert {s["run"] for s in samples} == {1, 2}
    out = capsys.readouterr().out
    assert "agree within 5%" not in out  # 64 against 93
    assert "DIFFER by more than 5%: at most by 45.3% (2.0, transmit)" in out


def test_throughput_rounds_are_interleaved(lab, tmp_path):
    """native, 2.0, ports, combining, optimised, and again; three rounds for two that count."""
    run("throughput", tmp_path, profile="paper")
    names = [configuration.name for configuration, *_ in lab.calls]
    assert names[:6] == ["native", "2.0", "ports", "combining", "optimised", "native"]
    assert len(names) == 3 * 2 * 5


def test_throughput_goes_on_without_iperf3(lab, tmp_path, capsys):
    """One line says what is missing; the rest is measured."""
    lab.patch.setattr(throughput.shutil, "which", lambda _: None)
    record = run("throughput", tmp_path, profile="paper")
    captured = capsys.readouterr()
    assert "apt install iperf3" in captured.err.splitlines()[0]
    assert "were not compared" in captured.out
    assert not keys_of(record, "iperf3_mbps")


def test_bare_paths_are_rows_where_nothing_limits():
    """--link none: relay, and VDE where it is installed; nowhere else."""
    (series,) = throughput.series_of("none", None, vde_there=True)
    assert series.settings.profile == "fast"
    assert series.configurations[-2:] == (RELAY, VDE)
    (series,) = throughput.series_of("none", None, vde_there=False)
    assert VDE not in series.configurations
    for series in throughput.series_of(None, None, vde_there=True):
        assert RELAY not in series.configurations


@pytest.mark.parametrize(
    ("link", "profile", "found"),
    [
        (None, "fast", [("1gbit", "fast")]),
        ("100mbit", None, [("100mbit", "paper")]),
        ("1000mbit", None, [("1gbit", "fast")]),
        ("10mbit", "fast", [("10mbit", "fast")]),
    ],
)
def test_series_follow_the_options(link, profile, found):
    """A link chooses its profile, a profile its link, and both together are taken as they are."""
    series = throughput.series_of(link, profile, vde_there=True)
    assert [(each.settings.link, each.settings.profile) for each in series] == found


def test_a_bad_link_is_refused():
    """Before anything is started."""
    with pytest.raises(ConfigError, match="link rate"):
        throughput.series_of("fast", None, vde_there=True)


def test_idle_prints_table_3(lab, tmp_path, capsys):
    """All rows, both ways to halt, the paper's figures, the order; samples keyed by HLT."""
    record = run("idle", tmp_path)
    assert {(s["configuration"], s["hlt"]) for s in keys_of(record, "idle_share")} == {
        ("native", "-"),
        *((name, hlt) for name in ("optimised", "without notification", "ports", "2.0") for hlt in ("vmm", "host")),
    }
    out = capsys.readouterr().out
    assert "21.7" in out
    assert "Idle time is in the paper's order" in out
    assert "steps within the spread: none" in out


def test_idle_says_when_the_order_is_another(lab, tmp_path, capsys):
    """Nothing is glossed over."""
    lab.patch.setitem(IDLE, "ports", 0.5)
    run("idle", tmp_path)
    assert "NOT in the paper's order" in capsys.readouterr().out


def test_idle_configurations_switch_single_things():
    """Without notification: that is optimised less one switch; every configuration sets all switches anew."""
    found = idle.configurations()["without notification"]["vmm"]
    assert found.changes["notification"] is False
    assert (found.changes["mode"], found.changes["hlt"], found.changes["combining"]) == ("optimised", "vmm", None)
    assert mode("2.0").changes.keys() == found.changes.keys() == NATIVE.changes.keys()


def test_lowest_bound_rate_climbs_until_no_idle_time_is_left(lab):
    """From what 2.0 manages without a limit, by a tenth at a time."""
    shares = iter([0.5, 0.2, 0.1, 0.01])
    lab.patch.setattr(idle, "transfer", lambda *_: {"goodput_mbps": 94.15, "idle_share": next(shares)})
    bed = FakeBed(make_settings())
    found = idle.lowest_bound_rate(SimpleNamespace(bed=bed), None)
    rates = [int(link.removesuffix("mbit")) for link in bed.links[1:]]
    assert bed.links[0] == "none"
    assert found == bed.links[-1]
    assert 100 <= rates[0] <= 101
    assert all(1.09 < later / earlier < 1.12 for earlier, later in pairwise(rates))


def test_a_machine_that_always_idles_ends_the_search(lab):
    """The search is bounded, and says that it found nothing."""
    lab.patch.setattr(idle, "transfer", lambda *_: {"goodput_mbps": 90.0, "idle_share": 0.5})
    with pytest.raises(BenchError, match="not CPU-bound"):
        idle.lowest_bound_rate(SimpleNamespace(bed=FakeBed(make_settings())), None)


def test_sweep_covers_figure_6(lab, tmp_path, capsys):
    """Eight sizes, three configurations, two shares of the CPU; one row for each size."""
    record = run("sweep", tmp_path)
    samples = keys_of(record)
    assert len(samples) == 2 * 8 * 3 * 2
    assert {s["operation_bytes"] for s in samples} == {512 * 2**step for step in range(8)}
    assert {s["cpu"] for s in samples} == {"full", "half"}
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[2:10]] == ["512", "1024", "2048", "4096", "8192", "16384", "32768", "65536"]


def test_counts_show_each_driver_beside_the_paper(lab, tmp_path, capsys):
    """Both drivers, all modes, lone and bulk, both ways; the paper's 12 and 5 under Linux 2.2's driver only."""
    lab.patch.setenv("COLUMNS", "250")  # one table, not several below each other
    record = run("counts", tmp_path)
    samples = keys_of(record, "port_accesses_per_packet")
    assert len(samples) == 2 * 2 * len(counts.jobs())
    assert {(s["driver"], s["load"], s["direction"]) for s in samples} == {
        (driver, load, way)
        for driver in ("linux22", "napi")
        for load in ("lone", "bulk")
        for way in ("transmit", "receive")
    }
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if line.startswith("paper")] == [
        ["paper", "sent", "12", "-", "-", "-", "1", "-", "5"]
    ]


def test_a_stack_that_dies_leaves_marked_results(lab, tmp_path, capsys):
    """What was measured is in the file and on the screen, marked; the error passes on."""
    good = idle.transfer

    def transfer(machines, configuration, *rest):
        if configuration.name == "ports":
            raise ProcessDiedError("process vmm (pid 1) was killed by SIGKILL")
        return good(machines, configuration, *rest)

    lab.patch.setattr(idle, "transfer", transfer)
    file = tmp_path / "out.json"
    options = {"runs": 1, "quick": True, "json": file, "guest": None, "link": None, "profile": None, "seconds": None}
    with pytest.raises(ProcessDiedError):
        bench.run(argparse.Namespace(bench="idle", **options))
    record = json.loads(file.read_text())
    assert record["complete"] is False
    assert {s["configuration"] for s in record["samples"]} == {"native", "optimised", "without notification"}
    out = capsys.readouterr().out
    assert out.startswith("Partial results")
    assert "order is not known" in out


def test_options_of_other_benchmarks_are_refused():
    """An option that a benchmark would ignore is an error."""
    options = {
        "runs": None,
        "quick": True,
        "json": None,
        "guest": None,
        "link": "1gbit",
        "profile": None,
        "seconds": None,
    }
    with pytest.raises(ConfigError, match="bench handoff has no --link"):
        bench.run(argparse.Namespace(bench="handoff", **options))
