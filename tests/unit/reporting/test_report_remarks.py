"""What the report says beside figures: busy, invalid, too few, not comparable."""

from __future__ import annotations

import pytest

from lab.bench.remarks import beyond_native
from lab.reporting import book, results
from lab.reporting.blocks import Prose, Table
from lab.reporting.sections import differences, heading
from tests.kit.results import MACHINE, breakdown, ping, sample, store, throughput

BUSY = {"cpus": "0", "cpu_others_percent": 31.0, "cpu_steal_percent": 0.0, "window_seconds": 1.0}


def warnings(blocks) -> str:
    """Their texts, as one."""
    return " ".join(block.text for block in blocks if isinstance(block, Prose) and block.warning)


def one(folder, samples, **head):
    """The only result in a folder, and what stands above its figures."""
    store(folder, "ping", samples, **head)
    found = results.load(folder)
    return found, heading(found.results[0], found.results)


def test_a_busy_machine_is_named_above_the_figures(tmp_path):
    """By how much, and in which measurements; a quiet one is not mentioned."""
    quiet = {"cpus": "0", "cpu_others_percent": 1.0, "cpu_steal_percent": 0.0, "window_seconds": 1.0}
    samples = [sample("native", "rtt_ms", 1.0, 1, "ms", **BUSY), sample("optimised", "rtt_ms", 1.0, 1, "ms", **quiet)]
    _, said = one(tmp_path, samples)
    assert "BUSY: 31 % of CPU 0 was others' (native, 1 of 1 measured)" in warnings(said)
    assert "optimised" not in warnings(said)


def test_no_conclusion_is_drawn_from_what_is_invalid(tmp_path):
    """Zeros that were contradicted appear in no table and no sentence; a line says that they are there."""
    contradicted = {"valid": False, "reason": "0 frames went through the network card"}
    samples = [each | {"value": 0.0} | contradicted for each in breakdown() if each["configuration"] == "2.0"]
    store(tmp_path, "breakdown", samples, complete=False)
    found = results.load(tmp_path)
    (section,) = [each for each in book.sections(found) if each.anchor == "breakdown"]
    assert "INVALID: 2.0, run 1: 0 frames went through the network card" in warnings(section.blocks)
    assert not any("Here, they take" in block.text for block in section.blocks if isinstance(block, Prose))
    cells = [cell for block in section.blocks if isinstance(block, Table) for row in block.rows for cell in row]
    assert "0.0" not in cells


def test_fewer_runs_and_single_ones_are_said(tmp_path):
    """A file that says it is complete and has one run of two; one run has no spread."""
    _, said = one(tmp_path, ping())
    text = " ".join(block.text for block in said)
    assert "FEWER than asked for" in text
    assert "no spread is known" in text


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"processor": "Another"}, ["machine"]),
        ({"source": "0123456789ab"}, ["version of the code"]),
        ({"packages": {"worldswitch": "9"}, "cpus": 64}, ["machine", "version of the code"]),
        ({}, []),
    ],
)
def test_results_that_must_not_be_compared_say_so(tmp_path, other, said):
    """Two files of one experiment, of different machines or code."""
    store(tmp_path, "ping", ping(), "a.json")
    store(tmp_path, "ping", ping(), "b.json", machine=MACHINE | other)
    found = results.load(tmp_path)
    assert differences(found.results[0], found.results) == said
    assert ("don't compare figures" in warnings(heading(found.results[0], found.results))) is bool(said)


def test_results_that_tell_nothing_of_their_conditions_are_named(tmp_path):
    """Files of earlier versions: it is not known whether the machine was busy."""
    store(tmp_path, "ping", ping(), "old.json")
    store(tmp_path, "ping", [sample("native", "rtt_ms", 1.0, 1, "ms", **BUSY)], "new.json")
    text = " ".join(block.text for block in book._introduction(results.load(tmp_path)) if isinstance(block, Prose))
    assert "is not known of old.json:" in text


def test_better_than_native_is_marked_as_odd(tmp_path):
    """The native machine does strictly less: more than it is noise, of more Mb/s as of shorter round trips."""
    values = {"optimised, transmit": [96.0], "2.0, transmit": [60.0]}
    assert beyond_native(values, [90.0, 80.0], more_is_better=True) == [
        "ODD: optimised, transmit: 1.13 of native, which does less; its own 2 runs differ by 12%"
    ]
    assert not beyond_native(values, [95.0], more_is_better=True)
    assert not beyond_native(values, [], more_is_better=True)
    assert len(beyond_native({"x": [1.0]}, [2.0], more_is_better=False)) == 1
    store(tmp_path, "throughput", throughput(native=20.0, optimised=90.0))
    (section,) = [each for each in book.sections(results.load(tmp_path)) if each.anchor == "throughput"]
    assert any("ODD: optimised, transmit: 4.26 of native" in b.text for b in section.blocks if isinstance(b, Prose))
