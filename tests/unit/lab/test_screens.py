"""What a user sees first fits the screen: help, status, top, registers, list, summaries, and each table of figures.

At 80 columns, and at 200, which tables may use. Figures are real: those of docs/report.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab import cli, demo, demoguest, report, rundir
from lab.bench import BENCHES
from lab.bench.machines import NATIVE
from lab.bench.samples import Recorder
from lab.commands import registers, stacks, status, up
from lab.demoparts import step
from lab.rates import Sample, rates_between
from lab.status import COUNTER_NAMES
from lab.topview import view
from machine.config import Settings, make_settings
from machine.counters import COUNTERS
from machine.lance.registers import describe
from machine.launch import ROLES

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "report"
AT_EACH_WIDTH = pytest.mark.parametrize("columns", [80, 200])
BIG = 12_345_678  # a counter of a stack that has run for an hour
NAME = "abcdefghijklmnopqrst"


@pytest.fixture
def screen(monkeypatch):
    """Sets the width; returns what checks a text against it."""

    def at(columns):
        monkeypatch.setenv("COLUMNS", str(columns))

        def check(text):
            assert text.strip()
            assert [line for line in text.splitlines() if len(line) > columns] == []
            return text

        return check

    return at


def printed(function, *arguments):
    """What the function prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function(*arguments)
    return out.getvalue()


@AT_EACH_WIDTH
@pytest.mark.parametrize("words", [[], ["--help"], *([name, "--help"] for name in cli.COMMANDS)], ids=" ".join)
def test_help(screen, columns, words):
    """Help of the program, which is also what it says when it is called alone, and of every command."""
    check = screen(columns)

    def run():
        with contextlib.suppress(SystemExit):
            assert cli.main(words) == 0

    assert "usage: worldswitch" in check(printed(run))


def recorded(name):
    """A shipped result, as the benchmark that measured it had it."""
    record = json.loads((RESULTS / f"{name}.json").read_text())
    recorder = Recorder(record["bench"], record["settings"], None)
    recorder.samples = record["samples"]
    return recorder, record


def show(name):
    """Prints what the benchmark printed."""
    recorder, record = recorded(name)
    bench = importlib.import_module(f"lab.bench.{record['bench']}")
    made = [
        Settings.from_map(each) for each in record["settings"].get("stacks", [record["settings"].get("stack")]) if each
    ]
    shows = {
        "handoff": lambda: [
            bench._show(recorder, kind, where) for kind in bench.DOORBELLS for where in ("same CPU", "across CPUs")
        ],
        "idle": lambda: bench.show(recorder, made[0]),
        "combining": lambda: bench.show(recorder, made[0]),
        "counts": lambda: bench._show_all(recorder, made),
        "throughput": lambda: bench._show_all(recorder, [bench._series(each, vde_there=True) for each in made]),
    }
    shows.get(record["bench"], lambda: bench.show(recorder))()


SHIPPED = [path.stem for path in sorted(RESULTS.glob("*.json")) if path.name != "packets.trace.json"]


@AT_EACH_WIDTH
@pytest.mark.parametrize("name", SHIPPED)
def test_the_tables_of_a_benchmark(screen, columns, name):
    """Every result that is shipped, printed as its benchmark prints it."""
    screen(columns)(printed(show, name))


@AT_EACH_WIDTH
def test_the_remarks_of_a_benchmark(screen, columns):
    """That the machine was busy, what is invalid and why, what is missing: below the tables, as wide as they are."""
    where = {"direction": "transmit", "driver": "linux22", "load": "lone", "cpus": "0,1,2,3", "window_seconds": 1.0}
    reason = "the network card carried 12345678 bytes, the peer's interface 123456789 to 223456789; " * 2
    recorder = Recorder("counts", {"runs": 3}, None)
    recorder.add("mode optimised", "goodput_mbps", "Mb/s", 1.0, 1, **where, cpu_others_percent=31.0, retries=1)
    recorder.add("native", "goodput_mbps", "Mb/s", 1.0, 1, **where, valid=False, reason=reason)
    text = screen(columns)(printed(recorder.__exit__, None))
    for said in ("INVALID: native, ", "BUSY: 31 % of CPUs 0,1,2,3 was others' (", "second attempt", "NOT COMPLETE: "):
        assert said in " ".join(text.split())


def test_every_benchmark_is_among_them():
    """No benchmark's table is left out for want of a result."""
    assert {recorded(name)[1]["bench"] for name in SHIPPED} == set(BENCHES)


def a_report(**settings):
    """A status report on a busy stack that runs."""
    made = make_settings({"name": NAME, **settings})
    found = report._empty(NAME, "running")
    found["settings"] |= made.as_map()
    found["addresses"] = dict.fromkeys(found["addresses"], "198.18.0.255")
    found["processes"] = {role: {"pid": 4194304, "cpu_percent": 99.9, "rss_bytes": 1 << 30} for role in ROLES}
    found["counters"] = dict.fromkeys(COUNTER_NAMES, BIG * 1000)
    found["ports"] = {f"0x{n:04x}": {"reads": BIG, "writes": BIG, "ns": BIG * 99} for n in range(0x1000, 0x1020, 2)}
    found["world_switch_ns"] = {"p50": 9000, "p99": 99_000, "samples": 1024, "there_p50": 1, "back_p50": 1}
    found["links"] = {"host/wire0": dict.fromkeys(("rx_packets", "tx_packets", "rx_bytes", "queue_drops", "x"), BIG)}
    return found


@AT_EACH_WIDTH
@pytest.mark.parametrize("settings", [{}, {"guest": "qemu", "profile": "fast"}, {"mode": "optimised", "pcap": "/x"}])
def test_status(screen, columns, settings):
    """Settings, addresses and every table, with large figures."""
    text = screen(columns)("\n".join(status.table(a_report(**settings))))
    assert f"{BIG * 1000:,}" in text


@AT_EACH_WIDTH
def test_top(screen, columns):
    """Its heading, too; two rankings side by side, and no more than 24 lines."""
    check = screen(columns)
    ports = {f"0x{n:04x}": {"reads": BIG, "writes": BIG, "ns": BIG} for n in range(0x1000, 0x1020, 2)}
    times = {"p50": 12_300, "p99": 45_600, "samples": 1024}
    counters = dict.fromkeys((*COUNTER_NAMES, *(counter.name for counter in COUNTERS)), 0)

    def sample(at, scale):
        status = {"counters": dict.fromkeys(counters, scale), "lance": 0x1000, "foreign": False}
        seen = {name: {key: value * (scale > 0) for key, value in port.items()} for name, port in ports.items()}
        return Sample(
            at, status | {"ports": seen, "world_switch_ns": times, "cable": False}, dict.fromkeys(ROLES, 99.0)
        )

    settings = make_settings({"name": NAME, "mode": "optimised", "combining": False}).as_map()
    after = sample(1.0, BIG)
    lines = view(NAME, settings, after.status, rates_between(sample(0.0, 0), after), str)
    text = check("\n".join(lines))
    assert len(lines) <= 24
    for said in ("CABLE PULLED", "mode optimised", "combining off", "12.3 us", "p99 45.6 us", f"{BIG:,}"):
        assert said in text


@AT_EACH_WIDTH
def test_registers(screen, columns, monkeypatch):
    """Decoded registers with all their bits set, so with all their names."""
    from machine.lance.state import STATE_WORDS

    words = memoryview(bytearray(b"\xff\xff\0\0" * STATE_WORDS)).cast("I")
    monkeypatch.setattr(registers.client, "request", lambda *_: {"text": describe(words)})
    text = screen(columns)(printed(registers.run, argparse.Namespace(name="x")))
    assert "CSR0" in text


@AT_EACH_WIDTH
@pytest.mark.parametrize("guest", ["builtin", "qemu"])
@pytest.mark.parametrize("detached", [True, False])
def test_summary_of_up(screen, columns, guest, detached):
    """What a user reads of a stack that has just started; the first line begins with its name."""
    made = make_settings({"name": NAME, "guest": guest, "mode": "optimised", "cpus": None})
    assert screen(columns)(up.summary(made, detached=detached)).startswith(f"stack {NAME} is up: ")


@AT_EACH_WIDTH
def test_list(screen, columns, monkeypatch, tmp_path):
    """A line for each stack, with long names; one whose record is damaged is in it, and said."""
    monkeypatch.setattr(stacks, "require_root", lambda: None)
    monkeypatch.setattr(rundir.RunDirectory.__init__, "__defaults__", (tmp_path,))
    monkeypatch.setattr(stacks, "names", lambda: rundir.names(tmp_path))
    for name in ("a", NAME):
        directory = rundir.RunDirectory(name)
        directory.path.mkdir()
        record = {"state": "running", "settings": make_settings({"name": name, "mode": "optimised"}).as_map()}
        directory.save(record | {"supervisor": {"pid": 1, "started": 0}})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "record.msgpack").write_bytes(b"\xc1")
    text = screen(columns)(printed(stacks.run, argparse.Namespace(json=False)))
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["name", "state"], ["a", "dead"], [NAME, "dead"], ["b", "damaged"],
    ]  # fmt: skip


@AT_EACH_WIDTH
def test_the_demos_table(screen, columns):
    """All rows of the demonstration, with figures of a long run; fewer than a hundred pings have a slowest."""
    spent = dict.fromkeys((*COUNTER_NAMES, *(counter.name for counter in COUNTERS)), BIG)
    made = []
    for title in ("native", "mode 2.0", "mode optimised"):
        column = demo._Column(title, NATIVE, SimpleNamespace(bed=SimpleNamespace(stack=None)))
        column.cells = {"ping, median (ms)": "0.123", "UDP at 20 Mb/s, datagrams lost": "12345 of 123456"}
        column.count(spent)
        column.parts.failures.append(f"iperf3 TCP to the peer, 4 s: failed: {'the peer says nothing; ' * 8}")
        column.remarks.append("TCP from the peer (Mb/s): BUSY: 31 % of CPUs 0,1,2,3 was others', 2 % the hypervisor's")
        made.append(column)
    note = "profile paper, driver linux22, link 100mbit; guest 4194301, vmm 4194302, vmapp 4194303"
    text = screen(columns)(printed(demo._print_table, made, note))
    assert f"{BIG}/{BIG}" in text
    assert text.count("BUSY") == text.count("failed") == len(made)


@AT_EACH_WIDTH
def test_the_demos_table_of_a_stock_guest(screen, columns):
    """Every row and every step that it announces."""
    check = screen(columns)
    row = ["ethtool -t eth0 offline", "optimised", "123.4 Mb/s", "12345678", "12345678", "12.34", "1234567", "12.34"]
    check(demoguest.table(demoguest._HEADER, [row], keys=2))
    check(printed(step, f"booting /var/cache/worldswitch/guest/image/{'x' * 30} under qemu; it has one card"))
