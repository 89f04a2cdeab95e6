"""What others had of the measured CPUs: from recorded texts of /proc, and from a busy loop that is really there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.load import disturbance, place
from lab.load.cpu import CpuTicks, CpuUse
from lab.load.disturbance import attended, busy_text, conditions_of, others_share, parse_pressure, process_seconds

PRESSURE = """\
some avg10=12.50 avg60=3.10 avg300=0.90 total=123456789
full avg10=0.00 avg60=0.00 avg300=0.00 total=77
"""
STAT = "4242 (ws vmm) x) S 1 4242 4242 0 -1 4194560 900 50 0 0 150 50 7 3 20 0 1 0 98765 1000 200 18446744073709551615"
HZ = os.sysconf("SC_CLK_TCK")
BURN = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def ticks(user=0.0, system=0.0, irq=0.0, softirq=0.0, steal=0.0, idle=0.0):
    """Seconds of each kind, as ticks."""
    return CpuTicks(*(int(seconds * HZ) for seconds in (user, system, irq, softirq, steal, idle)))


def test_pressure_is_the_total_of_some():
    """In us since boot; none where the kernel does not say it, or says something else."""
    assert parse_pressure(PRESSURE) == 123456789
    for text in ("", "\n\n", "full avg10=0.00 total=5\n", "some avg10=1.00\n", "some total=x\n", "some total=-3\n"):
        assert parse_pressure(text) is None


def test_a_kernel_without_pressure_leaves_it_unknown(monkeypatch, tmp_path):
    """No /proc/pressure, or one that refuses to be read: the rest is there all the same."""
    for missing in (tmp_path / "cpu", tmp_path):
        monkeypatch.setattr(disturbance, "_PRESSURE", missing)
        with attended((min(os.sched_getaffinity(0)),)) as seen:
            time.sleep(0.05)
        assert seen.conditions is not None
        assert seen.conditions.pressure is None
        assert seen.conditions.as_fields()["cpu_pressure_percent"] is None


def test_process_time_is_its_own_and_that_of_children_that_are_gone():
    """utime, stime, cutime, cstime; the name may hold blanks and brackets."""
    assert process_seconds(STAT) == (150 + 50 + 7 + 3) / HZ


def test_others_have_what_nothing_else_explains():
    """Ten seconds: four idle, one of interrupts, one stolen, two of the stack: two are others'."""
    spent = [ticks(user=3, system=1, softirq=1, steal=1, idle=4)]
    assert others_share(spent, 10.0, own=2.0) == pytest.approx(0.2)
    assert others_share(spent, 10.0, own=9.0) == 0.0  # counted in ticks: never less than nothing
    assert others_share([], 10.0, own=0.0) == others_share(spent, 0.0, own=0.0) == 0.0
    assert others_share(spent * 2, 10.0, own=4.0) == pytest.approx(0.2)  # of both CPUs


def test_conditions_are_plain_values_with_units():
    """Every field that a sample gets, in its order."""
    use = CpuUse(seconds=10.0, spent={0: ticks(user=5, steal=1, idle=4)})
    fields = conditions_of(use, 2.0, 1_000_000, 3_000_000).as_fields()
    assert tuple(fields) == disturbance.FIELDS
    assert fields == {
        "window_seconds": 10.0,
        "cpus": "0",
        "cpu_others_percent": 30.0,
        "cpu_steal_percent": 10.0,
        "cpu_pressure_percent": 20.0,
    }
    assert conditions_of(use, 2.0, 5, 3).as_fields()["cpu_pressure_percent"] == 0.0  # a total that went backwards


@pytest.mark.parametrize(
    ("others", "steal", "cpus", "said"),
    [
        (31.4, 0.0, "0", "BUSY: 31 % of CPU 0 was others'"),
        (31.4, 12.0, "0,1", "BUSY: 31 % of CPUs 0,1 was others', 12 % of CPUs 0,1 was the hypervisor's"),
        (0.2, 50.0, "3", "BUSY: 50 % of CPU 3 was the hypervisor's"),
        (4.9, 0.0, "0", None),
        (2.5, 2.4, "0", None),
        (2.5, 2.6, "0", "BUSY: 2 % of CPU 0 was others', 3 % of CPU 0 was the hypervisor's"),
    ],
)
def test_busy_is_said_from_one_limit_on(others, steal, cpus, said):
    """What others and the hypervisor took together counts."""
    assert busy_text(others, steal, cpus, 1.0) == said


def test_a_short_time_is_not_busy_by_rounding():
    """Of 50 ms, a tick is a fifth: what rounding may have made is not called busy; of no time, nothing is."""
    assert disturbance.busy_limit(5.0) == disturbance.busy_limit(0.8) == disturbance.BUSY_PERCENT
    assert busy_text(30.0, 0.0, "0", 0.05) is None
    assert busy_text(90.0, 0.0, "0", 0.05) is not None
    assert busy_text(100.0, 0.0, "0", 0.0) is None


def burning(seconds: float, cpu: int, **keys) -> subprocess.Popen:
    """A program that is busy on one CPU and ends by itself."""
    process = subprocess.Popen([sys.executable, "-c", BURN.format(seconds)], **keys)
    os.sched_setaffinity(process.pid, {cpu})
    return process


@pytest.mark.parametrize("whose", ["others", "the load's", "the stack's"])
def test_a_busy_loop_is_booked_on_whom_it_belongs_to(whose):
    """Beside the measured it is others' time; as the load's or the stack's own it is not."""
    cpu = min(os.sched_getaffinity(0))
    with burning(1.2, cpu, env=place.environment() if whose == "the load's" else None) as process:
        time.sleep(0.1)
        before = spent_by(process)
        with attended((cpu,), (process.pid,) if whose == "the stack's" else ()) as seen:
            time.sleep(0.6)
        loop = (spent_by(process) - before) / seen.use.seconds
    assert seen.conditions is not None
    if whose == "others":
        assert seen.conditions.busy is not None
        assert seen.conditions.others >= loop - 0.1
    else:  # whatever else this machine is busy with, it had no more than the loop has left
        assert seen.conditions.others <= 1.1 - loop


def spent_by(process: subprocess.Popen) -> float:
    """CPU seconds of a process so far."""
    return process_seconds(Path(f"/proc/{process.pid}/stat").read_text())


def test_a_program_is_known_as_the_loads():
    """By the mark in its environment; this process, any other child and one that is gone are none."""
    with burning(2.0, min(os.sched_getaffinity(0)), env=place.environment()) as mine:
        deadline = time.monotonic() + 5.0  # the kernel shows an environment only when the program has begun
        while not place.is_load(mine.pid) and time.monotonic() < deadline and mine.poll() is None:
            time.sleep(0.01)
        assert place.is_load(mine.pid)
    assert not place.is_load(mine.pid)
    assert not place.is_load(os.getpid())
