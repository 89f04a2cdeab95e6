"""A guest, vmm or vmapp that was taken over, with all that it holds: who is more trusted goes on, and answers."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest

from machine.config import CHOICES
from machine.doorbell import DOORBELLS
from machine.wiring import ROLES
from tests.kit import misdeeds
from tests.kit.attack import attacked, attacked_up, source_of, strike
from tests.kit.cli import names_of, status, worldswitch
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
}


@pytest.mark.parametrize("misdeed", ON_RINGS)
@pytest.mark.parametrize("doorbell", DOORBELLS)
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


@pytest.mark.parametrize(
    ("role", "misdeed"),
    [(role, misdeed) for role in ROLES for misdeed in ON_ALL if role != "guest" or misdeed not in ON_RINGS],
)
def test_the_supervisor_survives_any_of_its_processes(role, misdeed):
    """It answers within seconds, either for a stack that runs or with why it ended; down leaves nothing."""
    with attacked_up(NAME, role, source_of(ON_ALL[misdeed])) as record:
        strike(record["processes"][role]["pid"])
        watch()
        done = worldswitch("down", "--name", NAME)
        assert "Traceback" not in done.stderr
    assert eventually(lambda: not names_of(NAME))
