"""CPU accounting: what /proc/stat says, and what is made of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.load.cpu import CpuTicks, parse_stat, share, watched
from machine.errors import ConfigError

STAT = """\
cpu  30 3 300 3000 30 3 6 9 0 0
cpu0 10 1 100 1000 10 1 2 3 4 0
cpu11 20 2 200 2000 20 2 4 6 0 0
intr 12345 0 0
ctxt 99
"""
ticks = st.builds(CpuTicks, *[st.integers(0, 1 << 40)] * 6)


def test_ticks_of_each_cpu():
    """Nice counts as user, I/O wait as idle; guest time, which user includes already, not again; the sum not at all."""
    assert parse_stat(STAT) == {0: CpuTicks(11, 100, 1, 2, 3, 1010), 11: CpuTicks(22, 200, 2, 4, 6, 2020)}


def test_shares_of_an_interval():
    """Each kind's part of the ticks that passed; what the hypervisor took is neither busy nor idle."""
    found = share(CpuTicks(100, 0, 0, 0, 0, 0), CpuTicks(120, 30, 5, 5, 10, 30))
    assert (found.user, found.system, found.irq, found.softirq, found.steal, found.idle) == (
        0.2, 0.3, 0.05, 0.05, 0.1, 0.3,
    )  # fmt: skip
    assert found.busy == pytest.approx(0.6)


@given(before=ticks, after=ticks)
def test_shares_make_up_the_whole(before, after):
    """Whatever the kernel counts, backwards included: each share is 0 to 1, all together 1, or 0 if nothing passed."""
    found = share(before, after)
    parts = [found.user, found.system, found.irq, found.softirq, found.steal, found.idle]
    assert all(0 <= part <= 1 for part in parts)
    assert sum(parts) == pytest.approx(1) or not any(parts)


def test_a_busy_process_is_seen():
    """A process (this one) that is busy for 0.2 s has had most of that as CPU time; one that is gone is left out."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    cpu = min(os.sched_getaffinity(0))
    with watched((cpu,), {"self": os.getpid(), "gone": gone.pid}) as use:
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass
    assert use.seconds >= 0.2
    assert use.processes.keys() == {"self"}
    assert 0.15 <= use.processes["self"].total <= 0.35
    assert use.cpus.keys() == {cpu}


def test_a_cpu_that_is_not_there_is_one_line():
    """ConfigError names it."""
    with pytest.raises(ConfigError, match="there is no CPU 4095"), watched((4095,)):
        pass
