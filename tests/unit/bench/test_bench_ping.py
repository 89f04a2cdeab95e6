"""The bench of round trips: every answer is a sample, and the table says how far above native it is."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from types import SimpleNamespace

import pytest

from lab.bench import ping
from lab.load.ping import PingResult
from lab.status import COUNTER_NAMES
from machine.errors import BenchError


class Pair:
    """Machines that stand at once; what they are asked for becomes the current configuration.

    Their card carries ``frames`` more each time that its counters are read.
    """

    frames = 1000

    def __init__(self, _bed: object) -> None:
        self.current = ""
        self.cpus = tuple(os.sched_getaffinity(0))[:1]
        self.bed = SimpleNamespace(stack=SimpleNamespace(pids={}))
        self.carried = 0

    def counters(self):
        self.carried += self.frames
        return dict.fromkeys(COUNTER_NAMES, 0) | {"tx_frames": self.carried}

    @contextlib.contextmanager
    def standing(self, configuration):
        self.current = configuration.name
        yield SimpleNamespace(name=configuration.name), SimpleNamespace(address="198.18.0.3")


def measure(monkeypatch, tmp_path, answer, status=0, **options):
    """One run on machines that answer as ``answer(configuration name)`` says; the record."""
    monkeypatch.setattr(ping, "ping", lambda near, _target, *, count, interval: answer(near.name, count))
    monkeypatch.setattr(ping, "Machines", Pair)
    monkeypatch.setattr(ping, "testbed", contextlib.nullcontext)
    monkeypatch.setattr(ping.preflight, "check_machine", lambda: None)
    file = tmp_path / "ping.json"
    chosen = {"runs": 1, "seconds": 1.0, "quick": True, "json": file, "link": None, "profile": "fast"} | options
    assert ping.run(argparse.Namespace(**chosen)) == status
    return json.loads(file.read_text())


def test_every_answer_is_a_sample(tmp_path, monkeypatch, capsys):
    """Each round trip is recorded with profile and pace; the printed difference is that of the medians."""
    times = {"native": (0.1, 0.1, 0.4), "2.0": (0.5, 0.6, 0.7), "optimised": (0.25, 0.3, 0.9)}
    record = measure(monkeypatch, tmp_path, lambda name, count: PingResult(times[name], count, 0))
    found = [s["value"] for s in record["samples"] if s["configuration"] == "2.0" and s["metric"] == ping.RTT]
    assert found == [0.5, 0.6, 0.7] * len(ping.PACES)
    assert all(s["profile"] == "fast" for s in record["samples"])
    out = capsys.readouterr().out
    assert "profile fast" in out
    assert "0.200" in out


def test_silence_is_an_error(tmp_path, monkeypatch):
    """A configuration in which nobody answers ends the bench in one line."""
    with pytest.raises(BenchError, match="nobody answered"):
        measure(monkeypatch, tmp_path, lambda _name, count: PingResult((), count, count))


def test_answers_that_no_frame_carried_are_invalid(tmp_path, monkeypatch, capsys):
    """A card whose counters stood still contradicts ping: measured twice, marked, not shown, never complete."""
    monkeypatch.setattr(Pair, "frames", 0)
    record = measure(monkeypatch, tmp_path, lambda _name, count: PingResult((0.1,), count, 0), status=1)
    assert record["complete"] is False
    for sample in record["samples"]:
        assert sample.get("valid", True) is (sample["configuration"] == "native")
    assert {s["retries"] for s in record["samples"] if s["configuration"] == "2.0"} == {1}
    captured = capsys.readouterr()
    assert "INVALID: 2.0" in captured.out
    assert "measured again: 0 frames went through the network card" in captured.err
    assert not [line for line in captured.out.splitlines() if line.startswith("2.0 ")]
