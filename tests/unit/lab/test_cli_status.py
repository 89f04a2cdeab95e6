"""The status report without a stack, and what is derived from the counters. No privilege."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import jsonschema
import pytest

from lab import cli, report, rundir, status
from lab.commands.status import table
from lab.processes import identify
from machine.counters import COUNTERS
from machine.layout import COUNTER_PAGE_BYTES, PORT_SLOTS, PORT_TABLE, PORT_WORDS, SWITCHES_BACK, SWITCHES_THERE

REQUIRED = set(
    """io_in io_out io_handled_in_vmm io_switched world_switches irqs_raised irqs_delivered tx_frames tx_bytes
    rx_frames rx_bytes rx_missed tap_writes tap_reads selects pic_accesses handled_in_vmm_ns""".split()  # noqa: SIM905
)


@pytest.fixture(autouse=True)
def _no_stacks(monkeypatch, tmp_path):
    monkeypatch.setattr(rundir.RunDirectory.__init__, "__defaults__", (tmp_path,))


@pytest.fixture
def page():
    """A vmm's counter page."""
    return memoryview(bytearray(COUNTER_PAGE_BYTES)).cast("Q")


def test_an_absent_stack_has_every_key(capsys):
    """JSON of a stack that is not there: valid, every key, null for what is unknown, status 3."""
    assert cli.main(["status", "--json", "--name", "nowhere"]) == 3
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, report.schema())
    assert found["state"] == "absent"
    assert set(found["counters"]) >= REQUIRED
    assert set(found["counters"].values()) == {None}
    assert set(found["processes"]) == {"guest", "vmm", "vmapp"}


def test_an_absent_stack_is_one_line_for_people(capsys):
    """For a stack that is not there: one line on stderr, status 3."""
    assert cli.main(["status", "--name", "nowhere"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("worldswitch: no stack nowhere is up")
    assert err.count("\n") == 1


def test_the_schema_is_a_schema_and_strict(capsys):
    """--schema prints what --json obeys; it allows no other key, and misses none."""
    assert cli.main(["status", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = report.make_report("nowhere")
    jsonschema.validate(good, schema)
    for bad in (good | {"extra": 1}, {k: v for k, v in good.items() if k != "ports"}, good | {"state": "odd"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_ports_are_read_from_the_table(page):
    """Entries are named by port; free ones are left out; the last one collects the rest."""
    for at, value in enumerate((0x1010 + 1, 5, 7, 900)):
        page[PORT_TABLE + at] = value
    last = PORT_TABLE + (PORT_SLOTS - 1) * PORT_WORDS
    for at, value in enumerate((0x10001, 1, 2, 3)):
        page[last + at] = value
    assert status.ports_of(page) == {
        "0x1010": {"reads": 5, "writes": 7, "ns": 900},
        "other": {"reads": 1, "writes": 2, "ns": 3},
    }


def test_totals_follow_from_ports_and_switches():
    """Port accesses split into switched ones and the rest; PIC accesses and VMM time come from their ports only."""
    counters = {counter.name: 0 for counter in COUNTERS} | {"switches_for_io": 4, "switches_for_hlt": 3}
    ports = {
        "0x0020": {"reads": 1, "writes": 2, "ns": 10},
        "0x00a1": {"reads": 0, "writes": 1, "ns": 5},
        "0x1010": {"reads": 3, "writes": 1, "ns": 1000},
        "0x1012": {"reads": 0, "writes": 6, "ns": 60},
        "other": {"reads": 1, "writes": 0, "ns": 7},
    }
    assert status.derive(counters, ports) == {
        "io_in": 5,
        "io_out": 10,
        "io_switched": 4,
        "io_handled_in_vmm": 11,
        "world_switches": 7,
        "pic_accesses": 4,
        "handled_in_vmm_ns": 75,
    }


def test_switch_times_ignore_what_has_not_happened(page):
    """Percentiles are over the samples there are; with none they are unknown."""
    assert status.switch_times(page)["p50"] is None
    for at in range(100):
        page[SWITCHES_THERE + at] = 1000 + at
    page[SWITCHES_BACK] = 7
    times = status.switch_times(page)
    assert times["samples"] == 101
    assert times["there_p50"] == 1049
    assert times["back_p50"] == 7
    assert 1000 <= times["p50"] <= times["p99"] <= 1099


def test_derived_names_clash_with_no_counter():
    """Every name means one thing."""
    assert len(set(status.COUNTER_NAMES)) == len(status.COUNTER_NAMES)
    assert set(status.COUNTER_NAMES) >= REQUIRED


def test_a_process_that_a_signal_has_stopped_is_named():
    """It is alive, and everything waits for it: one line says how it goes on; the others have none."""
    with subprocess.Popen(["sleep", "20"]) as stopped, subprocess.Popen(["sleep", "20"]) as running:
        try:
            identities = {
                "vmm": identify(stopped.pid),
                "vmapp": identify(running.pid),
                "guest": {"pid": 1, "started": 0},
            }
            assert list(report._stopped(identities)) == []
            stopped.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
            assert list(report._stopped(identities)) == [f"vmm is stopped by a signal: kill -CONT {stopped.pid}"]
        finally:
            for process in (stopped, running):
                process.kill()


def test_troubles_are_shown_and_harmless():
    """Each is a line of its own, below the stack's; what a vmm or QEMU put into it does nothing to the terminal."""
    shown = report.make_report("nowhere") | {
        "troubles": ["\x1b[2Jdead\u202e card", "paused"],
        "world_switch_ns": {"samples": 0},
    }
    assert list(table(shown))[1:3] == ["  TROUBLE: [2Jdead card", "  TROUBLE: paused"]
