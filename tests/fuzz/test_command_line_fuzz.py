"""The command line, fuzzed for a bounded time (WORLDSWITCH_FUZZ_SECONDS): any words, environment, limits, descriptors.

Whatever it is given: a status that is documented, at most one line of error, no traceback, nothing left behind.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from machine.errors import ConfigError
from tests.kit.clifuzz import Case, Outcome, cases, inside, outside, populate, problems
from tests.kit.fuzzing import fuzz_seconds

SECONDS: Final = fuzz_seconds(30)
NOBODY: Final = 65534
QUIET: Final = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)
FUZZING: Final = settings(max_examples=200, deadline=None, suppress_health_check=QUIET, database=None)
# Found at once or never: the same inputs in each run, and no time spent on making the one that fails smaller.
PLANTED: Final = settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=QUIET,
    database=None,
    derandomize=True,
    phases=(Phase.generate,),
)


class FoundError(AssertionError):
    """A call that did not behave."""


def judge(case: Case, outcome: Outcome) -> None:
    """FoundError if something is wrong with it."""
    if wrong := problems(case, outcome):
        raise FoundError(f"{'; '.join(wrong)}: {case}\n{outcome.errors[-3000:]}")


@pytest.fixture
def folder():
    """A folder to be called in, with what the words name; beside it, the run directory. Any user can get there."""
    with tempfile.TemporaryDirectory() as name:
        where = Path(name) / "here"
        where.mkdir()
        (Path(name) / "run").mkdir()
        populate(where)
        for path in (where, where.parent):
            path.chmod(0o777)
        yield where


def again(some, seconds):
    """Has hypothesis try its examples anew until the time is over."""
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        some()


def fuzz_inside(folder, seconds, how, *only):
    """Calls ``main`` with one command line after the other until the time is over; how many. ``only``: commands."""
    count = 0

    @how
    @given(cases(*only, process=False))
    def some(case):
        nonlocal count
        judge(case, inside(case, folder))
        count += 1

    again(some, seconds)
    return count


@pytest.mark.timeout(SECONDS + 100)
def test_any_command_line_is_answered_in_one_line(folder):
    """In this process, as a user and as root: all commands and options, tens of lines a second."""
    assert fuzz_inside(folder, SECONDS / 2, FUZZING) > 0


def fuzz_outside(folder, seconds, user):
    """Starts the program again and again until the time is over; how often."""
    count = 0

    @settings(FUZZING, max_examples=8)
    @given(cases(process=True))
    def some(case):
        nonlocal count
        judge(case, outside(case, folder, user))
        count += 1

    again(some, seconds)
    return count


@pytest.mark.timeout(SECONDS + 100)
def test_any_process_of_a_user_is_answered_in_one_line(folder):
    """As a user without privileges: closed and full descriptors, limits, a working directory that is gone."""
    user = NOBODY if os.geteuid() == 0 else None
    base = outside(Case(("--version",)), folder, user)
    if base.status != 0:
        pytest.skip("user nobody cannot reach this checkout")
    assert fuzz_outside(folder, SECONDS / 4, user) > 0


@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_any_process_of_root_is_answered_in_one_line(folder):
    """As root, in a mount and network namespace of its own, where no stack can be made."""
    done = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no namespaces of its own here")
    assert fuzz_outside(folder, SECONDS / 4, None) > 0


def checked_by_pattern_alone(name, _longest=32):
    """How a stack's name was checked once; argparse makes a list of --name=--, which is no text to match."""
    if not re.fullmatch("[a-z0-9-]+", name):
        raise ConfigError("bad name")
    return name


def taken_as_text(text):
    """How `profile` read its duration once: int() refuses 5000 digits with an error of its own."""
    return int(text) if text.isascii() and text.isdigit() else 5


def complain_and_leave(error):
    """Says it, and forgets a file."""
    Path(f"core.{time.monotonic_ns()}").touch()
    print(f"worldswitch: {error}", file=sys.stderr)


def complain_at_length(error):
    """Says it in two lines."""
    print(f"worldswitch: {error}\nand that is all", file=sys.stderr)


DASHES: Final = {
    "lab.arguments.Parser.check_values": lambda *_: None,
    "lab.rundir.check_stack_name": checked_by_pattern_alone,
}


@pytest.mark.parametrize(
    ("command", "planted"),
    [
        ("status", DASHES),
        ("profile", {"lab.commands.profile._whole_seconds": taken_as_text}),
        ("demo", {"lab.demo.whole": lambda *_: lambda text: range(int(float(text)))[0]}),
        ("up", {"lab.cli.complain": complain_at_length}),
        ("list", {"lab.cli.complain": complain_and_leave}),
        ("bench", {"machine.errors.ConfigError.exit_status": 64}),
        ("set", {"lab.cli.WorldswitchError": KeyError}),
    ],
)  # fmt: skip
def test_a_planted_defect_is_found(monkeypatch, folder, command, planted):
    """The fuzzer is not blind: a fault of each kind that it is for, put back, is found at once."""
    for where, defect in planted.items():
        monkeypatch.setattr(where, defect)
    with pytest.raises(FoundError):
        fuzz_inside(folder, 60.0, PLANTED, command)
