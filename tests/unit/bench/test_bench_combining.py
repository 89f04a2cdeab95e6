"""The sensitivity bench of send combining: one setting at a time, recorded with all three, printed with its default."""

from __future__ import annotations

import argparse
import contextlib
import json
from types import SimpleNamespace

import pytest

from lab.bench import combining
from lab.bench.transfer import per_packet
from machine.config import Settings, make_settings
from tests.kit.benches import LONE_PACKET


def test_one_setting_at_a_time():
    """Every configuration but the first differs from the defaults in one setting at most, and all are valid."""
    settings = make_settings({})
    every = combining.configurations(settings)
    assert every[combining.OFF].changes["combining"] is False
    for configuration in every.values():
        different = [key for key in combining.VALUES if configuration.changes[key] != getattr(settings, key)]
        assert len(different) <= 1
        Settings(**configuration.changes)
    assert {name.split()[0] for name in every} == {"combining", *combining.VALUES}


@pytest.mark.parametrize("key", combining.VALUES)
def test_defaults_are_among_the_values(key):
    """Each setting's own default is measured beside its other values."""
    assert getattr(make_settings({}), key) in combining.VALUES[key]


def test_run_records_every_value(tmp_path, monkeypatch, capsys):
    """A run measures every configuration, keeps the three settings in each sample, and marks the defaults."""
    measured = []

    def transfer(_machines, configuration, direction, _effort):
        measured.append(configuration.name)
        assert direction == "transmit"
        return {"goodput_mbps": 94.0, "idle_share": 0.2} | per_packet(LONE_PACKET)

    monkeypatch.setattr(combining, "transfer", transfer)
    monkeypatch.setattr(combining, "Machines", lambda bed: SimpleNamespace())
    monkeypatch.setattr(combining, "testbed", contextlib.nullcontext)
    monkeypatch.setattr(combining.preflight, "check_machine", lambda: None)
    file = tmp_path / "combining.json"
    args = argparse.Namespace(runs=2, seconds=None, quick=True, json=file, link=None, profile=None)
    assert combining.run(args) == 0
    every = list(combining.configurations(make_settings({})))
    assert measured == every * 2
    record = json.loads(file.read_text())
    assert record["complete"]
    assert all(combining.VALUES.keys() <= sample.keys() for sample in record["samples"])
    out = capsys.readouterr().out
    assert out.count("default") == len(combining.VALUES)
