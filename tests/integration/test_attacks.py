"""A guest, vmm or vmapp that was taken over, with all that it holds: who is more trusted goes on, and answers."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest

from lab import daemon
from lab.hearing import LONGEST_LINE
from lab.rundir import RunDirectory
from machine.config import CHOICES
from machine.doorbell import DOORBELLS
from machine.wiring import ROLES
from tests.kit import misdeeds
from tests.kit.attack import attacked, attacked_up, source_of, strike
from tests.kit.cli import names_of, status, worldswitch
from tests.kit.counts import sample
from tests.kit.stack import cpu_seconds, eventually

NAME = f"attack-{os.getpid()}"
ANSWER_S = 10.0
WATCH_S = 1.5
TRUSTED = ("vmm", "vmapp")
ON_RINGS = {"flags": misdeeds.change_flags, "fill": misdeeds.fill, "steal": misdeeds.steal}
ON_ALL = {
    **ON_RINGS,
    "close": misdeeds.close_all,
    "shutdown": misdeeds.shut_down,
    "signals": misdeeds.signal_everybody,
    "fork": misdeeds.fork,
    "cut": misdeeds.cut,
    "chatter": misdeeds.chatter,
}
NOT_GIVEN = ("fork", "cut", "signals")
RINGS = sample(
    [(doorbell, misdeed) for doorbell in DOORBELLS for misdeed in ON_RINGS],
    [("signal", "flags"), ("signal", "fill"), ("eventfd", "fill"), ("eventfd", "flags"), ("semaphore", "steal")],
)
ATTACKS = sample(
    [(role, misdeed) for role in ROLES for misdeed in ON_ALL],
    [("guest", "close"), ("guest", "chatter"), ("vmm", "chatter"), ("vmm", "shutdown"), ("vmapp", "flags")],
)
LOG_BYTES = daemon.LOG_BYTES + 2 * LONGEST_LINE


@pytest.mark.parametrize(("doorbell", "misdeed"), RINGS)
def test_a_guest_that_abuses_what_rings_keeps_nobody_from_the_supervisor(doorbell, misdeed):
    """Flags, counters, rings of all that the guest holds: vmm and vmapp live, take settings over, and come to rest."""
    with attacked("guest", source_of(ON_RINGS[misdeed]), doorbell=doorbell) as bed:
        strike(bed.stack.pids["guest"])
        for mode in (*CHOICES["mode"], *CHOICES["mode"]):
            bed.stack.apply(dataclasses.replace(bed.stack.settings, mode=mode))
            time.sleep(0.2)
        report = bed.stack.ask("guest", "attacked", ANSWER_S)
        assert "error" not in report, report
        bed.stack.apply(dataclasses.replace(bed.stack.settings, mode="2.0"))
        before = {role: cpu_seconds(bed.processes[role]) for role in TRUSTED}
        time.sleep(1.0)
        spent = {role: cpu_seconds(bed.processes[role]) - before[role] for role in TRUSTED}
        assert max(spent.values()) < 0.7, spent
        bed.alive()


def watch():
    """For a while: the supervisor answers within seconds, for a stack that runs, or with one line on why it ended."""
    deadline = time.monotonic() + WATCH_S
    while time.monotonic() < deadline:
        started = time.monotonic()
        found = status(NAME)
        assert time.monotonic() - started < ANSWER_S
        assert found["state"] in ("running", "ending", "stopped"), found
        if found["state"] == "stopped":
            assert "process" in found["reason"], found
            assert "\n" not in found["reason"]
        time.sleep(0.3)


def test_a_guest_that_spoils_its_semaphores_ends_nothing_but_its_stack():
    """They are memory, and glibc trusts it: the stack goes on, or ends in one line; the supervisor answers."""
    attack = source_of(misdeeds.spoil_semaphores)
    with attacked_up(NAME, "guest", attack, "--doorbell", "semaphore") as record:
        strike(record["processes"]["guest"]["pid"])
        worldswitch(
            "exec", "--name", NAME, "guest", "--", "ping", "-n", "-c", "20", "-i", "0.1", "-w", "3", "198.18.0.3"
        )
        watch()
    assert eventually(lambda: not names_of(NAME))


@pytest.mark.parametrize(("role", "misdeed"), ATTACKS)
def test_the_supervisor_survives_any_of_its_processes(role, misdeed):
    """It answers within seconds, either for a stack that runs or with why it ended; down leaves nothing."""
    with attacked_up(NAME, role, source_of(ON_ALL[misdeed])) as record:
        strike(record["processes"][role]["pid"])
        watch()
        if RunDirectory(NAME).log.exists():
            assert RunDirectory(NAME).log.stat().st_size <= LOG_BYTES
            assert b"\x1b" not in RunDirectory(NAME).log.read_bytes()
        done = worldswitch("down", "--name", NAME)
        assert "Traceback" not in done.stderr
    assert eventually(lambda: not names_of(NAME))


@pytest.mark.parametrize(
    ("role", "misdeed"),
    sample([(role, misdeed) for role in ROLES for misdeed in NOT_GIVEN], [("guest", each) for each in NOT_GIVEN]),
)
def test_what_no_role_is_given(role, misdeed):
    """To start a process, to cut or grow a page, to signal anybody: nothing of it happens, and the stack runs on."""
    with attacked(role, source_of(ON_ALL[misdeed])) as bed:
        strike(bed.stack.pids[role])
        report = bed.stack.ask(role, "attacked", ANSWER_S)
        assert "error" not in report, report
        assert report["done"] == 0
        assert bed.stack.keeper.cut == []
        bed.alive()
