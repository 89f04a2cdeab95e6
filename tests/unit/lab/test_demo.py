"""A demonstration reports and goes on: parts that fail, pings that are lost, names of figures."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lab import demo, demoguest
from lab.bench import qemuload
from lab.bench.machines import NATIVE
from lab.bench.rounds import Effort
from lab.demoparts import Parts
from lab.load.ping import PingResult
from machine.errors import BenchError, GuestError, ProcessDiedError
from tests.kit.benches import LONE_PACKET

ALIVE = SimpleNamespace(died=lambda: None)
EFFORT = Effort(runs=1, seconds=1.0)


def failing(error):
    """A part that does."""

    def work():
        raise error

    return work


def test_a_part_that_fails_costs_itself_only(capsys):
    """Its reason is kept, the next one is done, and what was done is counted."""
    parts = Parts("mode 2.0", ALIVE)
    assert parts.do("ping", failing(BenchError("nobody answered"))) is None
    assert parts.do("self test", failing(GuestError("silent"))) is None
    assert parts.do("iperf3", lambda: 7) == 7
    assert parts.failures == ["ping: failed: nobody answered", "self test: failed: silent"]
    assert parts.worked == 1
    assert capsys.readouterr().out.count("==> mode 2.0: ") == 3


def test_a_stack_that_has_died_ends_the_demonstration():
    """Nothing can go on without it, and the error names the process."""
    parts = Parts("native", SimpleNamespace(died=lambda: "process vmm died"))
    with pytest.raises(ProcessDiedError, match="vmm"):
        parts.do("ping", failing(BenchError("nobody answered")))


@pytest.mark.parametrize(
    ("answers", "lost", "said"),
    [((2.0,) * 150, 50, "2.00 ms, 50 of 200 lost"), ((2.0,) * 200, 0, "2.00 ms"), ((), 200, "all 200 lost")],
)
def test_lost_pings_are_shown(monkeypatch, answers, lost, said):
    """Fifty of two hundred, none, and all: the others have their median, and nothing is thrown away."""
    monkeypatch.setattr(qemuload, "ping", lambda *_, **__: PingResult(answers, 200, lost))
    guest = SimpleNamespace(peer=None, address="198.18.0.2")
    assert demoguest._pings(guest, EFFORT) == said


def test_lost_pings_are_a_figure_of_the_benchmark(monkeypatch):
    """Recorded beside the round trips, each with a unit; only silence is an error."""
    guest = SimpleNamespace(peer=None, address="198.18.0.2")
    monkeypatch.setattr(qemuload, "ping", lambda *_, **__: PingResult((1.0, 3.0), 20, 18))
    found = qemuload.round_trips(guest, EFFORT)
    assert (found["pings"], found["pings_lost"], found["rtt_p50_ms"]) == (20, 18, 2.0)
    assert found.keys() <= qemuload.UNITS.keys()
    monkeypatch.setattr(qemuload, "ping", lambda *_, **__: PingResult((), 20, 20))
    with pytest.raises(BenchError, match="none of 20"):
        qemuload.round_trips(guest, EFFORT)


def test_figures_have_the_benchmarks_names_and_values():
    """Accesses to the Lance are the paper's 12; those to the 8259A pair stand beside them."""
    column = demo._Column("mode 2.0", NATIVE, SimpleNamespace(bed=SimpleNamespace(stack=ALIVE)))
    column.count(LONE_PACKET)
    assert column.cells["accesses to the Lance per frame"] == "12.00"
    assert column.cells["accesses to the 8259A pair per frame"] == "5.00"
    assert column.cells["traps per frame, HLT included"] == "18.00"
    nothing = demo._Column("mode 2.0", NATIVE, SimpleNamespace(bed=SimpleNamespace(stack=ALIVE)))
    nothing.count(dict.fromkeys(LONE_PACKET, 0))
    assert nothing.cells == {"frames sent / received": "0/0"}


def test_twenty_pings_have_no_percentile(monkeypatch):
    """The slowest is called that; lost ones are counted."""
    monkeypatch.setattr(demo, "ping", lambda *_, **__: PingResult((1.0, 9.0), 20, 18))
    column = demo._Column("native", NATIVE, SimpleNamespace(bed=SimpleNamespace(stack=ALIVE)))
    column._pings(SimpleNamespace(), SimpleNamespace(address="198.18.0.3"))
    assert column.cells["ping, slowest (ms)"] == "9.000"
    assert column.cells["pings lost"] == "18 of 20"
