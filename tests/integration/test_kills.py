"""SIGKILL at random moments of a stack's life: whatever it hits, one `down` later there is nothing left of it."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from lab import processes
from machine.launch import ROLES
from tests.kit.cli import alive, foreground, names_of, record_of, up, worldswitch
from tests.kit.counts import rounds
from tests.kit.stack import eventually

NAME = f"kill-{os.getpid()}"
COUNT: Final = rounds(40)
"""How often each moment is tried; there are three moments for the supervisor, and two for each role."""

randomly = random.Random(os.getpid())


def kill(identity, number=signal.SIGKILL):
    """Kills a recorded process, if it is still that one."""
    processes.end([identity], number, 0.0)


@pytest.fixture(autouse=True)
def shared_before():
    """Shared memory that is there already is somebody else's."""
    before = set(os.listdir("/dev/shm"))
    yield
    assert {name for name in set(os.listdir("/dev/shm")) - before if "worldswitch" in name} == set()


def test_the_supervisor_is_killed_during_the_start():
    """Between any two steps of the start, a namespace that is made and not yet recorded among them."""
    for _ in range(COUNT):
        with foreground(NAME, "--link", "none", wait=False) as process:
            time.sleep(randomly.uniform(0.15, 1.5))
            process.kill()
            process.communicate(timeout=20)
            record = record_of(NAME)
            assert worldswitch("down", "--name", NAME).returncode == 0
            assert names_of(NAME) == set()
            assert not record or eventually(lambda record=record: not alive(record), 5)


def test_the_supervisor_is_killed_at_a_namespace():
    """As soon as one, two or three namespaces are seen: what is not recorded yet was planned."""
    for number in range(3):
        with foreground(NAME, "--link", "none", wait=False) as process:
            assert eventually(lambda number=number: len(list(Path("/run/netns").glob(f"ws-{NAME}-*"))) > number, 20)
            process.kill()
            process.communicate(timeout=20)
            assert worldswitch("down", "--name", NAME).returncode == 0
            assert names_of(NAME) == set()


def test_the_supervisor_is_killed_while_it_runs_or_ends():
    """At rest, or while it removes things after a first request to end."""
    for _ in range(COUNT):
        with up(NAME, "--link", "none") as record:
            if randomly.random() < 0.75:
                os.kill(record["supervisor"]["pid"], signal.SIGTERM)
                time.sleep(randomly.uniform(0.0, 0.3))
            kill(record["supervisor"])
            assert eventually(lambda record=record: not alive(record), 10)
            assert worldswitch("down", "--name", NAME).returncode == 0
            assert names_of(NAME) == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_killed(role):
    """At the start as soon as it is recorded, at rest, or while the stack ends: one line at most, nothing left."""
    for turn in range(max(1, COUNT // 4)):
        early = turn % 2 == 1 or randomly.random() < 0.5
        with foreground(NAME, "--link", "none", wait=not early) as process:
            assert eventually(lambda: role in record_of(NAME).get("processes", {}), 20)
            if not early and randomly.random() < 0.5:
                process.send_signal(signal.SIGTERM)
                time.sleep(randomly.uniform(0.0, 0.1))
            kill(record_of(NAME).get("processes", {}).get(role, {"pid": 0, "started": 1}))
            _, complaint = process.communicate(timeout=20)
            assert complaint.count("\n") <= 1, complaint
            assert "Traceback" not in complaint
            assert names_of(NAME) == set()
