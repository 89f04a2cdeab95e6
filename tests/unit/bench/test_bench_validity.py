"""No table that its own counters contradict: what is checked, what happens then, and what is said of it."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import threading
from types import SimpleNamespace

import pytest

from lab.bench import breakdown, handoff, remarks, tracedload, validity
from lab.bench.machines import mode
from lab.bench.rounds import Progress, reported
from lab.bench.samples import Recorder, machine_facts
from lab.bench.tables import figure, percent, spread, warn
from lab.bench.validity import Carried, Measured, attempted, merged
from lab.bench.window import Flow, Observed
from lab.load.cpu import CpuTicks, CpuUse
from lab.load.disturbance import Conditions
from lab.load.retry import once_more
from lab.status import COUNTER_NAMES
from lab.tracing.record import Trace
from lab.tracing.shares import divide
from machine.errors import BenchError, ConfigError, GuestError

NOTHING = dict.fromkeys(COUNTER_NAMES, 0)
# A window of one second in which 64 Mb/s went out, each frame with 12 accesses.
CARRIED = NOTHING | {
    "tx_frames": 5000,
    "rx_frames": 2500,
    "tx_bytes": 7_500_000,
    "rx_bytes": 165_000,
    "io_in": 20_000,
    "io_out": 40_000,
    "io_switched": 25_000,
    "irqs_raised": 3000,
    "irqs_delivered": 3000,
    "idle_ns": 200_000_000,
    "at_ns": 1_000_000_000,
}
QUIET = Conditions((0,), 1.0, 0.0, 0.0, None)
BUSY = {"cpus": "0", "cpu_others_percent": 31.0, "cpu_steal_percent": 0.0, "window_seconds": 1.0}


def window(counters, carried=7_665_000, use=None):
    """What was observed in it."""
    return Observed(1.0, 0.2, dict(counters), Carried(carried, carried + 1000), use)


def test_a_window_that_all_agree_on_has_no_faults():
    """Card, peer and load tell the same; a native one has no counters, and nothing is missed."""
    assert window(CARRIED).faults(60.0) == ()
    assert window({}).faults(60.0) == ()
    assert Observed(1.0, 0.5, {}).faults() == ()


@pytest.mark.parametrize(
    ("counters", "carried", "goodput", "fault"),
    [
        (CARRIED | {"tx_frames": 0, "rx_frames": 0}, 7_665_000, 60.0, "0 frames went through the network card"),
        (NOTHING | {"at_ns": 1_000_000_000}, 0, 60.0, "the load says 60.0 Mb/s, what was counted is 0.0"),
        (CARRIED | {"tx_bytes": 900_000}, 7_665_000, 60.0, "the network card carried 1065000 bytes, the peer's"),
        (CARRIED, 7_665_000, 400.0, "the load says 400.0 Mb/s"),
        (CARRIED, 7_665_000, 1.0, "the load says 1.0 Mb/s"),
        (CARRIED | {"io_switched": 99_000}, 7_665_000, 60.0, "99000 world switches for port accesses, of which"),
        (CARRIED | {"irqs_delivered": 9000}, 7_665_000, 60.0, "the guest took 9000 interrupts, of which 3000"),
        (CARRIED | {"rx_frames": -4}, 7_665_000, 60.0, "counter rx_frames went backwards"),
        (CARRIED | {"idle_ns": 2_000_000_000}, 7_665_000, 60.0, "idle for longer than it was observed"),
        ({}, 100, 60.0, "the load says 60.0 Mb/s"),
    ],
)
def test_whoever_counts_can_contradict(counters, carried, goodput, fault):
    """Each pair of parties that count the same thing: the reason names both figures."""
    assert any(fault in found for found in window(counters, carried).faults(goodput))


def test_idle_and_busy_are_the_time_that_passed():
    """Ticks for a tenth of the second that passed, or for two of them, are no account of it; too short a time is."""
    for idle, fine in ((100, True), (70, True), (10, False), (200, False)):
        use = CpuUse(1.0, spent={3: CpuTicks(0, 0, 0, 0, 0, idle)})
        assert (not list(validity.of_cpus(use))) is fine
    assert not list(validity.of_cpus(CpuUse(0.1, spent={3: CpuTicks(0, 0, 0, 0, 0, 3)})))
    assert not list(validity.of_ticks(CpuUse(0.1, spent={3: CpuTicks(0, 0, 0, 0, 0, 3)})))
    nothing = CpuUse(0.004, spent={3: CpuTicks(0, 0, 0, 0, 0, 0)})  # 0 % idle is no figure of it
    assert any("less than a tick" in fault for fault in Observed(0.004, 0.0, {}, use=nothing).faults())


def test_two_counts_of_the_same_frames():
    """They may begin and end apart on a busy machine; more than half of them is not missing from one by that."""
    assert not list(validity.of_packets(1000, 600, "the trace holds"))
    assert list(validity.of_packets(1000, 400, "the trace holds")) == [
        "the network card counted 1000 frames, the trace holds 400"
    ]


def test_lone_packets_that_came_together():
    """Sixteen lone packets in five interrupts were not alone: a guest without a CPU found several at once."""
    for interrupts in (12, 16, 20):
        assert not list(validity.of_alone(NOTHING | {"rx_frames": 16, "irqs_raised": interrupts}))
    (found,) = validity.of_alone(NOTHING | {"rx_frames": 16, "irqs_raised": 5})
    assert found == "16 lone packets raised 5 interrupts: the guest found several at once"


def test_a_slow_reading_is_no_contradiction():
    """The interface is read on both sides of the counters: what came in between may be on either side."""
    assert not Observed(1.0, 0.2, dict(CARRIED), Carried(2_000_000, 20_000_000)).faults(60.0)
    assert Observed(1.0, 0.2, dict(CARRIED), Carried(12_000_000, 20_000_000)).faults(60.0)


def attempts(*results):
    """A measurement that gives these in turn; errors are raised."""
    left = iter(results)

    def measure():
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return measure


def test_what_is_contradicted_is_measured_once_more(capsys):
    """The second counts, and says that it is one; the reason is told."""
    found = attempted(attempts(Measured({"x": 0.0}, {}, "no frames"), Measured({"x": 5.0}, {"cpus": "0"})))
    assert found == {"x": 5.0}
    assert found.notes == {"cpus": "0", "retries": 1}
    assert capsys.readouterr().err == "measured again: no frames\n"


def test_what_is_contradicted_twice_is_invalid(capsys):
    """Kept, and marked with the reason; an error that comes twice is the caller's."""
    found = attempted(attempts(Measured({"x": 0.0}, {}, "a"), Measured({"x": 0.0}, {}, "b", "c")))
    assert found.notes == {"retries": 1, "valid": False, "reason": "b; c"}
    for late in (BenchError("late"), GuestError("the guest does not answer")):
        assert attempted(attempts(late, Measured({"x": 1.0}))).notes == {"retries": 1}
    with pytest.raises(BenchError, match="again"):
        attempted(attempts(BenchError("late"), BenchError("late again")))


def test_a_load_is_tried_twice_and_no_more():
    """The second attempt is counted; what cannot become better is not tried again."""
    assert once_more(attempts(7)) == (7, 0)
    assert once_more(attempts(BenchError("late"), 7)) == (7, 1)
    with pytest.raises(BenchError, match="b"):
        once_more(attempts(BenchError("a"), BenchError("b"), 7))
    with pytest.raises(ConfigError):
        once_more(attempts(ConfigError("no"), 7))


def test_attempts_of_two_loads_add_up():
    """Nettest's and iperf3's: one measurement, whose conditions are the first one's."""
    found = merged(Measured({"a": 1.0}, {"cpus": "0", "retries": 1}), Measured({"b": 2.0}, {"retries": 1}))
    assert found == {"a": 1.0, "b": 2.0}
    assert found.notes == {"cpus": "0", "retries": 2}
    assert merged({"a": 1.0}, {"b": 2.0}).notes == {}


def record(tmp_path, samples, runs=1):
    """A recorder that has these (value, run, notes) at its end; its file."""
    path = tmp_path / "out.json"
    with Recorder("idle", {"runs": runs}, path) as recorder:
        for value, run, notes in samples:
            recorder.add("optimised", "goodput_mbps", "Mb/s", value, run, direction="transmit", **notes)
    return recorder, json.loads(path.read_text())


def test_zeros_that_were_contradicted_are_never_complete(tmp_path, capsys):
    """They stay in the file, marked; no median is taken of them, the exit status is 1, and one line says why."""
    recorder, written = record(tmp_path, [(0.0, 1, {"valid": False, "reason": "no frame"}), (9.0, 2, {})], runs=2)
    assert written["complete"] is False
    assert [sample["value"] for sample in written["samples"]] == [0.0, 9.0]
    assert recorder.values(metric="goodput_mbps") == [9.0]
    assert recorder.status == 1
    out = capsys.readouterr().out
    assert "INVALID: optimised, transmit, run 1: no frame" in out
    assert "NOT COMPLETE" in out


def test_fewer_runs_than_asked_for_are_not_complete(tmp_path, capsys):
    """Two of three; and none at all."""
    assert record(tmp_path, [(1.0, 1, {}), (1.0, 2, {})], runs=3)[1]["complete"] is False
    assert "NOT COMPLETE: 1 measurements fewer than asked for" in capsys.readouterr().out
    assert record(tmp_path, [], runs=1)[1]["complete"] is False
    assert record(tmp_path, [(1.0, 1, {}), (1.0, 2, {})], runs=2)[1]["complete"] is True


def test_busy_is_printed_once_for_a_measurement(tmp_path, capsys):
    """Not for each metric of it; the worst of several runs, and how many they were."""
    samples = [(1.0, 1, BUSY), (2.0, 1, BUSY), (1.0, 2, BUSY | {"cpu_others_percent": 0.0})]
    recorder, written = record(tmp_path, samples, runs=2)
    assert written["complete"] is True
    assert recorder.status == 0
    assert written["samples"][0]["cpu_others_percent"] == 31.0
    assert capsys.readouterr().out == "BUSY: 31 % of CPU 0 was others' (optimised, transmit, 1 of 2 measured)\n"


def test_second_attempts_are_told(tmp_path, capsys):
    """A load that failed once has had its influence on the order of things."""
    record(tmp_path, [(1.0, 1, {"retries": 1})])
    assert capsys.readouterr().out == "optimised, transmit, run 1: measured at the second attempt\n"


def test_remarks_survive_whatever_a_file_holds():
    """Numbers out of reach, texts, nothing: no exception, and nothing said that is not so."""
    base = {"configuration": "x", "metric": "m", "unit": "1", "value": 1, "run": 1}
    strange = [{"cpu_others_percent": value, "cpus": "0"} for value in (10**400, float("nan"), float("inf"), "9", None)]
    strange += [
        {"cpus": 7, "cpu_others_percent": 50},
        {"valid": "no"},
        {"retries": True},
        {"reason": 3, "valid": False},
    ]
    found = remarks.remarks_on([base | each | {"n": n} for n, each in enumerate(strange)])
    assert not found.busy
    assert len(found.invalid) == 1
    assert remarks.runs_missing([base], "three") == remarks.runs_missing([base], True) == 0


def test_many_remarks_become_few():
    """A busy afternoon does not fill the screen."""
    samples = [{"configuration": f"c{n}", "metric": "m", "unit": "1", "value": 1, "run": 1} | BUSY for n in range(40)]
    found = remarks.remarks_on(samples)
    assert len(found.busy) == 9
    assert found.busy[-1] == "(and 32 more like these)"


@pytest.mark.parametrize(("tty", "term", "no_color", "coloured"), [
    (True, "xterm", "", True), (True, "xterm", "1", False), (True, "dumb", "", False), (False, "xterm", "", False),
])  # fmt: skip
def test_colour_is_for_terminals(monkeypatch, capsys, tty, term, no_color, coloured):
    """And for those who have not asked for none."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty, raising=False)
    warn("BUSY")
    assert (capsys.readouterr().out != "BUSY\n") is coloured


def test_what_is_not_zero_does_not_look_like_it():
    """A share of 0.0003 is "<0.1" per cent; zero is zero, and so is an exact number."""
    assert percent([0.0003]) == "<0.1"
    assert percent([0.0]) == "0.0"
    assert percent([0.0, 0.0001, 0.5]) == "<0.1 [0.0..50.0]"
    assert figure(-0.001, 2) == ">-0.01"
    assert spread([0.3]) == "0.3"


def test_the_codes_state_is_among_the_facts():
    """Two results of different code can be told apart, committed or not."""
    facts = machine_facts()
    assert len(facts["source"]) == 12
    assert facts["source"] == machine_facts()["source"]


class Wire(Flow):
    """A flow whose totals are given."""

    def __init__(self, totals):
        self._totals = iter(totals)
        self._last = 0

    def total(self):
        self._last = next(self._totals, self._last)
        return self._last


def test_a_window_opens_when_bytes_flow():
    """Not after a time; and not at all if the traffic is over first, or does not come in time."""
    assert Wire([0, 0, 0, 100, 20_000]).begins(threading.Event())
    over = threading.Event()
    over.set()
    assert not Wire([0, 90_000]).begins(over)
    assert not Wire([0, 5]).begins(threading.Event(), seconds=0.1)


def test_a_trace_without_traffic_is_no_result(monkeypatch):
    """The load that does not begin is an error, and says so: rows of zeros are not printed."""
    machines = SimpleNamespace(standing=lambda _: contextlib.nullcontext(("near", "far")))
    monkeypatch.setattr(tracedload, "lively", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(tracedload, "flow", lambda *_: contextlib.nullcontext(Wire([0])))
    monkeypatch.setattr(tracedload, "transmitting", lambda *_: contextlib.nullcontext(threading.Event()))
    monkeypatch.setattr(tracedload, "_START_SECONDS", 0.1)
    with pytest.raises(BenchError, match="no traffic flowed"):
        tracedload.traced(machines, mode("2.0"), "loaded", SimpleNamespace(seconds=1.0, warm_up=0.0))


def test_a_trace_must_hold_the_frames_that_were_counted():
    """Unless records were lost, which is told anyway."""
    empty = Trace(0, 1_000_000_000, {role: [] for role in ("guest", "vmm", "vmapp")})
    assert list(tracedload._of_trace(empty, {"tx_frames": 4000}))
    empty.lost = 5
    assert not list(tracedload._of_trace(empty, {"tx_frames": 4000}))
    assert list(breakdown._unlikely(divide(empty)))


def test_others_time_is_booked_as_others():
    """A trace without a record, on a CPU that others had for four fifths: that is not the guest's row."""
    division = divide(Trace(0, 1_000_000_000, {role: [] for role in ("guest", "vmm", "vmapp")}))
    foreign = Conditions((0,), 1.0, 0.7, 0.1, None)
    found = breakdown.rest(division, Observed(1.0, 0.0, {}, conditions=foreign))
    assert found["others"] == pytest.approx(0.8)
    assert found["guest"] == pytest.approx(0.2)
    quiet = breakdown.rest(division, Observed(1.0, 0.0, {}, conditions=QUIET))
    assert (quiet["guest"], quiet["others"]) == (1.0, 0.0)
    assert breakdown.rest(division, Observed(1.0, 0.0, {}))["others"] == 0.0


def test_handoffs_that_took_no_time_are_not_figures():
    """Fewer round trips than asked for, or of no length, are a reason to measure again."""
    assert not handoff._short({"raw": [5] * 10}, 10)
    assert handoff._short({"raw": [5] * 9}, 10)
    assert handoff._short({"vmm": []}, 10)
    assert handoff._short({"vmapp": [0] * 10}, 10)


def test_no_runs_are_refused(tmp_path):
    """Zero and less, by handoff as by all others: one line, before anything is measured."""
    for runs in (0, -1):
        given = argparse.Namespace(runs=runs, quick=True, seconds=None, json=tmp_path / "x.json")
        with pytest.raises(ConfigError, match="at least once"):
            handoff.run(given)
    assert not list(tmp_path.iterdir())


def fails_after(done, path):
    """A benchmark of two measurements that cannot clean up after ``done`` of them."""
    progress = Progress(2, io.StringIO())
    with Recorder("idle", {"runs": 1}, path, progress) as recorder, reported(progress, lambda: print("the table")):
        recorder.add("native", "goodput_mbps", "Mb/s", 1.0, 1)
        for _ in range(done):
            progress.end()
        raise BenchError("cannot remove network namespace")


@pytest.mark.parametrize(("done", "complete"), [(1, False), (2, True)])
def test_results_are_complete_when_all_was_measured(tmp_path, capsys, done, complete):
    """A namespace that cannot be removed afterwards is an error, but not one of the figures."""
    with pytest.raises(BenchError, match="cannot remove"):
        fails_after(done, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["complete"] is complete
    out = capsys.readouterr().out
    assert "the table" in out
    assert ("Partial results" in out) is not complete


def test_numbers_in_a_remark_say_what_they_are():
    """A pace or a size by its name; what the row's name says already is left out."""
    sample = {
        "configuration": "2.0",
        "metric": "m",
        "unit": "1",
        "value": 1,
        "run": 1,
        "combine_cap": 3,
        "pace_ms": 5.0,
    }
    assert remarks.remarks_on([sample | BUSY]).busy == [
        "BUSY: 31 % of CPU 0 was others' (2.0, pace_ms 5.0, 1 of 1 measured)"
    ]
