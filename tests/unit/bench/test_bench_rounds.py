"""How often things are measured, in what order, and how progress is told."""

from __future__ import annotations

import argparse
import io

import pytest

from lab.bench.rounds import Effort, Progress, reported, rounds
from machine.errors import BenchError, ConfigError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def arguments(**given: object) -> argparse.Namespace:
    """The command line's arguments: nothing but what is given."""
    return argparse.Namespace(**{"runs": None, "seconds": None, "quick": False} | given)


def test_defaults_discard_one_round():
    """Without options: the benchmark's own number of runs, 5 s each, one round more that does not count."""
    effort = Effort.of(arguments(), runs=3)
    assert (effort.runs, effort.seconds, effort.discarded, effort.rounds) == (3, 5.0, 1, 4)


def test_quick_measures_once_and_discards_nothing():
    """--quick: one round of 1 s measurements; --runs and --seconds win over it."""
    quick = Effort.of(arguments(quick=True), runs=3)
    assert (quick.runs, quick.seconds, quick.rounds) == (1, 1.0, 1)
    both = Effort.of(arguments(quick=True, runs=2, seconds=0.5), runs=3)
    assert (both.runs, both.seconds) == (2, 0.5)


@pytest.mark.parametrize("given", [{"runs": 0}, {"runs": -1}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_nonsense_is_refused(given):
    """Zero runs, no time, or a time that is no number: a ConfigError that names the option."""
    with pytest.raises(ConfigError, match=f"--{next(iter(given))}"):
        Effort.of(arguments(**given), runs=3)


def test_rounds_are_interleaved_and_the_first_is_marked():
    """Each round has every item once, in order; the discarded round counts 0."""
    progress = Progress(6, io.StringIO())
    found = list(rounds(["a", "b"], Effort(runs=2), progress, str))
    assert found == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_elsewhere_than_on_a_terminal_each_measurement_is_a_line():
    """A log gets whole lines, with the time left from the second on."""
    stream, times = io.StringIO(), iter([0.0, 10.0, 20.0])
    progress = Progress(3, stream, lambda: next(times))
    for name in "ab":
        progress.begin(name)
        progress.end()
    assert stream.getvalue() == "1/3  a\n2/3, about 20 s left  b\n"


def test_long_times_are_told_in_minutes():
    """From 90 s on, minutes."""
    stream, times = io.StringIO(), iter([0.0, 60.0])
    progress = Progress(4, stream, lambda: next(times))
    progress.end()
    progress.begin("x")
    assert "about 3 min left" in stream.getvalue()


def test_a_terminal_shows_one_line_that_is_cleared():
    """The bar overwrites itself, never ends its line, and goes away."""
    stream = Terminal()
    progress = Progress(2, stream)
    progress.begin("x" * 500)
    progress.clear()
    text = stream.getvalue()
    assert "\n" not in text
    assert text.endswith("\r\033[K")
    assert len(text.split("\r\033[K")[1]) < 500


def test_results_of_a_failed_benchmark_are_shown_and_called_partial(capsys):
    """An error passes on; what was measured is shown first, and marked. Without an error it is not."""
    progress = Progress(1, io.StringIO())
    with pytest.raises(BenchError), reported(progress, lambda: print("table")):
        raise BenchError("no")
    assert capsys.readouterr().out == "Partial results: the benchmark did not reach its end.\ntable\n"
    with reported(progress, lambda: print("table")):
        pass
    assert capsys.readouterr().out == "table\n"
