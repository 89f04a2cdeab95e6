"""A benchmark whose end is not as it should be: what was measured is complete, or kept, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from lab.bench.samples import Recorder
from lab.bench.testbed import testbed as make_bed  # pytest takes test* for a test
from lab.commands.down import end_stack
from lab.stops import Interruption, interruptible
from machine.config import make_settings
from machine.errors import BenchError
from netbackend import namespaces, nsfiles
from tests.kit.cli import names_of

NAME = f"bench-{os.getpid()}"
SETTINGS = make_settings({"link": "none"})


def test_a_clean_up_that_fails_costs_no_results(tmp_path, capsys):
    """The last sample has been taken, and a namespace cannot be removed: complete, with a line on what is left."""
    file = tmp_path / "out.json"
    guest = namespaces.namespace_name(NAME, "guest")
    try:
        with Recorder("handoff", {}, file) as recorder, make_bed(SETTINGS):
            recorder.add("x", "y", "ns", 1.0, 1)
            namespaces.remove(guest)
            os.mkdir(nsfiles.path(guest))  # which is no file to be unlinked
        assert json.loads(file.read_text())["complete"] is True
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"what was measured is complete, but run `worldswitch down --name {NAME}`" in said
    finally:
        os.rmdir(nsfiles.path(guest))
        end_stack(NAME)
    assert names_of(NAME) == set()


def test_of_two_failures_the_first_is_told(tmp_path, capsys):
    """A measurement fails, and then the clean-up: not complete, the first is raised, the second is a line."""
    guest = namespaces.namespace_name(NAME, "guest")

    def fail():
        with Recorder("handoff", {}, tmp_path / "out.json"), make_bed(SETTINGS):
            namespaces.remove(guest)
            os.mkdir(nsfiles.path(guest))
            raise BenchError("it went wrong")

    try:
        with pytest.raises(BenchError, match="it went wrong"):
            fail()
        assert json.loads((tmp_path / "out.json").read_text())["complete"] is False
        assert capsys.readouterr().err.startswith("worldswitch: cannot remove network namespace")
    finally:
        os.rmdir(nsfiles.path(guest))
        end_stack(NAME)
    assert names_of(NAME) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGALRM])
def test_an_impatient_user_interrupts_no_clean_up(number):
    """A signal, and many more while everything is removed: Interruption, and nothing is left."""

    def impatient():
        with make_bed(SETTINGS):
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)  # SIGALRM, again and again
            os.kill(os.getpid(), number)
            time.sleep(5)

    with interruptible():
        try:
            with pytest.raises(Interruption):
                impatient()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert names_of(NAME) == set()


def test_a_signal_that_comes_during_the_clean_up_waits_for_its_end(monkeypatch):
    """The first signal of all, while things are removed: they are, and then it has its effect."""
    remove, removed = namespaces.remove, []

    def slowly(*words):
        os.kill(os.getpid(), signal.SIGTERM)
        removed.append(words[0])
        return remove(*words)

    def leave():
        with make_bed(SETTINGS):
            monkeypatch.setattr(namespaces, "remove", slowly)

    with interruptible(), pytest.raises(Interruption):
        leave()
    assert len(removed) == 4
    assert names_of(NAME) == set()
