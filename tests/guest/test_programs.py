"""What is built on a stock guest, as short as it can be: the benchmark beside QEMU's own card, the demonstration."""

from __future__ import annotations

import json

import pytest

from lab import cli
from lab.bench.qemubars import CONFIGURATIONS, DIRECTIONS, OWN

# Fourteen measurements and three boots take less than a minute, and a multiple of it on a busy machine.
pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """What a quick benchmark has written."""
    file = tmp_path_factory.mktemp("bench") / "qemu.json"
    assert cli.main(["bench", "qemu", "--quick", "--seconds", "1", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["complete"] is True
    return found


def values(record, metric, **keys):
    """The values of the samples that have these keys."""
    return [s["value"] for s in record["samples"] if s["metric"] == metric and keys.items() <= s.items()]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_benchmark_measures_everything(record, configuration):
    """Each card: both directions, round trips, the cost of an access; accesses and interrupts of each frame."""
    for direction in DIRECTIONS:
        assert 1 < values(record, "goodput_mbps", configuration=configuration, direction=direction)[0] < 100
        assert values(record, "irqs_per_packet", configuration=configuration, direction=direction)[0] > 0
        assert values(record, "port_accesses_per_packet", configuration=configuration, direction=direction)[0] > 0
    assert values(record, "rtt_p50_ms", configuration=configuration)[0] > 0
    (access_us,) = values(record, "access_us", configuration=configuration)
    assert access_us > 0 or configuration == OWN  # within QEMU, an access takes less than a busy machine's disturbances


def test_benchmark_tells_the_cards_apart(record):
    """World switches are ours alone, and an access to ours takes longer than one within QEMU."""
    assert not values(record, "world_switches_per_packet", configuration=OWN)
    assert values(record, "access_us", configuration="optimised") > values(record, "access_us", configuration=OWN)


def test_demonstration(capsys, monkeypatch):
    """It boots, names the card, and every row of its table has a result; the self-test passes in both modes."""
    monkeypatch.setenv("COLUMNS", "120")  # a row a line
    assert cli.main(["demo", "--guest", "qemu", "--seconds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "registered as PCnet/PCI II 79C970A" in printed
    rows = [line for line in printed.splitlines() if line.startswith("ethtool -t eth0 offline")]
    assert [row.split()[5] for row in rows] == ["PASS", "PASS"]
