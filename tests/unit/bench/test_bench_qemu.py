"""Arithmetic of ``bench qemu``: ratios, bars, costs per frame, the second command line, the report's section."""

from __future__ import annotations

import json

import pytest

from lab.bench import qemu as bench
from lab.bench.qemubars import BARS, HELD, OWN, quotient, verdicts
from lab.bench.qemuguests import with_own_card
from lab.bench.qemuload import UNITS, per_packet
from lab.bench.samples import Recorder
from lab.qemu import client_options
from lab.reporting import qemu as section
from lab.reporting import results
from lab.reporting.blocks import Prose, Table
from netbackend.plan import NetworkPlan
from tests.kit.results import sample, store


def samples(transmit: float, receive: float, rtt: float) -> list[dict]:
    """QEMU's own at 100 Mb/s and 1 ms, ours as given."""
    found = []
    for name, values in ((OWN, (100.0, 100.0, 1.0)), (HELD, (transmit, receive, rtt))):
        for direction, value in zip(("transmit", "receive"), values, strict=False):
            found.append(sample(name, "goodput_mbps", value, 1, "Mb/s", direction=direction))
        found.append(sample(name, "rtt_p50_ms", values[2], 1, "ms"))
    return found


def recorded(given: list[dict]) -> Recorder:
    """A recorder that has them."""
    recorder = Recorder("qemu", {}, None)
    recorder.samples += given
    return recorder


def test_quotients_of_medians():
    """Of medians; of nothing, or by nothing, there is none."""
    assert quotient([1.0, 9.0, 2.0], [4.0]) == 0.5
    assert quotient([], [1.0]) is None
    assert quotient([1.0], []) is None
    assert quotient([1.0], [0.0]) is None


@pytest.mark.parametrize(
    ("figures", "met"),
    [
        ((100.0, 100.0, 1.5), [True, True, True]),
        ((99.0, 250.0, 0.2), [False, True, True]),
        ((0.0, 99.9, 1.51), [False] * 3),
    ],
)
def test_bars(figures, met):
    """Throughput must not be less than QEMU's own, a round trip at most half as long again; a line judges nobody."""
    found = list(verdicts(recorded(samples(*figures))))
    assert [good for good, _ in found] == met
    assert all("goal" in line and "NOT MET" not in line and "bar" not in line for _, line in found)
    assert found[0][1] == f"bulk transmit: goal >= 1 of QEMU's own: {figures[0] / 100:.3f}"


def test_bars_that_were_not_measured():
    """Neither met nor missed."""
    assert [good for good, _ in verdicts(recorded([]))] == [None] * len(BARS)


def test_costs_per_packet():
    """What grew, divided by the frames, at least one."""
    assert per_packet({"irqs": 30}, 20) == {"irqs_per_packet": 1.5}
    assert per_packet({"irqs": 3}, 0) == {"irqs_per_packet": 3.0}
    assert set(per_packet(dict.fromkeys(("irqs", "port_accesses", "world_switches"), 1), 1)) <= set(UNITS)


def test_only_the_card_differs():
    """The other guest's command line is the same, word for word, but for the network card."""
    words = ("qemu", *client_options("512M", "sock"), "-kernel", "k")
    other = with_own_card(words, 7, NetworkPlan("x"))
    assert other[-2:] == ["-kernel", "k"]
    assert "vfio-user" not in json.dumps(other)
    assert [word for word in words if word not in other] == [words[words.index("-device") + 1]]


def test_tables_of_a_partial_run(capsys):
    """A run that was cut short shows what there is; one that had not begun shows nothing."""
    bench.show(recorded(samples(90.0, 110.0, 1.2)[:1]))
    assert "QEMU's own" in capsys.readouterr().out
    bench.show(recorded([]))
    assert not capsys.readouterr().out


def test_report_section(tmp_path):
    """Both tables, a chart, and a warning for each bar that is not met."""
    store(tmp_path, "qemu", samples(90.0, 110.0, 1.2))
    made = section.qemu(results.load(tmp_path))
    assert sum(isinstance(block, Table) for block in made.blocks) == 2
    warnings = [block.text for block in made.blocks if isinstance(block, Prose) and block.warning]
    assert len(warnings) == 1
    assert "bulk transmit: goal >= 1 of QEMU's own: 0.900" in warnings[0]
