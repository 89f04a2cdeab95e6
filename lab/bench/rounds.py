"""How often and in what order things are measured, and how far that has got.

Rounds are interleaved: every round measures each thing once, so that a machine that becomes slower or faster does
so for all of them. The first round warms up caches, bridge and TCP, and is discarded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TextIO, TypeVar

from machine.errors import ConfigError

__all__ = ["Effort", "Progress", "reported", "rounds"]

T = TypeVar("T")

_SECONDS: Final = 5.0
_QUICK_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 3600.0
_WARM_UP_SECONDS: Final = 1.0
_QUICK_WARM_UP_SECONDS: Final = 0.3
_BAR_CELLS: Final = 24


@dataclass(frozen=True, slots=True)
class Effort:
    """What one benchmark spends: counted rounds, discarded ones before them, seconds of each measurement.

    ``warm_up``: seconds at the start of each measurement that do not count.
    """

    runs: int
    seconds: float = _SECONDS
    warm_up: float = _WARM_UP_SECONDS
    discarded: int = 1

    @classmethod
    def of(cls, args: argparse.Namespace, runs: int) -> Effort:
        """As ``--runs``, ``--seconds`` and ``--quick`` say; ``runs`` if they say nothing. ConfigError for nonsense."""
        wanted = args.runs if args.runs is not None else 1 if args.quick else runs
        if wanted < 1:
            raise ConfigError(f"--runs {wanted}: measure at least once")
        seconds = args.seconds if args.seconds is not None else _QUICK_SECONDS if args.quick else _SECONDS
        if not 0 < seconds <= _LONGEST_SECONDS:
            raise ConfigError(f"--seconds {seconds:g}: more than 0, at most {_LONGEST_SECONDS:g}")
        if args.quick:
            return cls(wanted, seconds, _QUICK_WARM_UP_SECONDS, 0)
        return cls(wanted, seconds)

    def as_map(self) -> dict[str, Any]:
        """For the settings of a record."""
        return {
            "runs": self.runs,
            "seconds": self.seconds,
            "warm_up_seconds": self.warm_up,
            "discarded_rounds": self.discarded,
        }

    @property
    def rounds(self) -> int:
        """Counted and discarded ones."""
        return self.runs + self.discarded


class Progress:
    """A bar with the time left on a terminal; a line for each measurement elsewhere. Of ``total`` measurements."""

    def __init__(self, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``stream``: standard error if None; ``clock``: in seconds."""
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._bar = self._stream.isatty()
        self._clock = clock
        self._started = clock()
        self._done = 0

    def begin(self, label: str) -> None:
        """The next measurement begins."""
        text = f"{self._done + 1}/{self._total}{self._time_left()}  {label}"
        if self._bar:
            full = _BAR_CELLS * self._done // self._total
            self._overwrite(f"[{'#' * full}{'.' * (_BAR_CELLS - full)}] {text}")
        else:
            self._write(f"{text}\n")

    def end(self) -> None:
        """It has been measured."""
        self._done += 1

    @property
    def finished(self) -> bool:
        """Whether everything has been measured."""
        return self._done >= self._total

    def clear(self) -> None:
        """Nothing of the bar stays on the screen."""
        if self._bar:
            self._overwrite("")

    def _time_left(self) -> str:
        if not self._done:
            return ""
        seconds = (self._clock() - self._started) / self._done * (self._total - self._done)
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"

    def _overwrite(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\033[K{text[:width]}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads it any more; the measurement goes on
            pass


def rounds(
    items: Sequence[T], effort: Effort, progress: Progress, label: Callable[[T], str]
) -> Iterator[tuple[int, T]]:
    """(run, item) for every measurement in order; runs count from 1, those below 1 are to be discarded."""
    for run in range(1 - effort.discarded, effort.runs + 1):
        for item in items:
            progress.begin(label(item) if run > 0 else f"{label(item)} (warming up)")
            yield run, item
            progress.end()


@contextmanager
def reported(progress: Progress, show: Callable[[], None]) -> Iterator[None]:
    """Shows the results when the block ends, however it does; those of one that ended early are called partial.

    One that had measured everything, and then failed to clean up, has not ended early.
    """
    try:
        yield
    except BaseException:
        progress.clear()
        if progress.finished:
            print("Everything was measured; what failed came afterwards.")
        else:
            print("Partial results: the benchmark did not reach its end.")
        show()
        raise
    progress.clear()
    show()
