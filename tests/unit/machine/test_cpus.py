"""CPUs are those that this process may use at the moment: nobody is refused what he has not asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from machine import cpus
from machine.config import Settings, default_cpus, make_settings
from machine.errors import ConfigError


def allow(monkeypatch, *numbers):
    """From now on this process may use these CPUs only, as after taskset, or with others unplugged."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(numbers))


@pytest.mark.parametrize("allowed", [(0,), (1,), (3, 7), (63,)])
def test_the_defaults_are_among_those_allowed_now(monkeypatch, allowed):
    """Profile paper takes the first, profile fast all, whatever they were when the module was imported."""
    allow(monkeypatch, *allowed)
    assert make_settings().cpus == Settings().cpus == default_cpus("paper") == allowed[:1]
    assert make_settings({"profile": "fast"}).cpus == default_cpus("fast") == allowed


@pytest.mark.parametrize("profile", ["paper", "fast"])
def test_a_program_behind_taskset_starts_with_its_own_cpus(profile):
    """A new process with the last CPU alone: no default is one that it may not use."""
    last = max(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{last}}})\n"
        f"from machine.config import make_settings; print(*make_settings({{'profile': {profile!r}}}).cpus)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(last)]


def test_a_cpu_that_a_user_names_and_may_not_use_is_one_line(monkeypatch):
    """The line says which it is, and which there are."""
    allow(monkeypatch, 1, 2)
    with pytest.raises(ConfigError, match="CPU 0,5 is not among those that this process may use, 1,2") as caught:
        make_settings({"cpus": "0,1,5"})
    assert "\n" not in str(caught.value)


def test_a_pinned_process_reads_its_stacks_settings(monkeypatch):
    """Guest, vmm and vmapp are pinned to some of the CPUs, and are told all of them with each change of settings."""
    allow(monkeypatch, 0, 1)
    made = make_settings({"profile": "fast"})
    allow(monkeypatch, 1)
    assert Settings.from_map(made.as_map()) == made


@pytest.mark.parametrize(
    "value", ["1_0", " 1", "1 ", "+1", "-1", "\u0661", "1,,2", "9" * 5000, [True], ["1"], [1.0], None]
)
def test_only_plain_numbers_name_cpus(value):
    """What int() would take besides is no CPU: neither other digits, nor signs, nor a number without an end."""
    with pytest.raises(ConfigError, match="bad cpus"):
        cpus.parse_cpus(value)
