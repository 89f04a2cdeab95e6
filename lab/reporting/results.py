"""Bench results as files: what ``lab.bench.samples.Recorder`` has written, read back and checked.

A directory may hold anything; a file that is not a result is left out, and why is said on the page. What passes the
checks here can be formatted, summed and drawn: numbers are such as something measures, names are short and printable.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeGuard

from lab.bench.remarks import is_valid
from lab.load.disturbance import FIELDS
from machine.errors import BenchError, ConfigError

__all__ = [
    "LARGEST",
    "TRACE_SUFFIX",
    "Collection",
    "Result",
    "is_name",
    "is_size",
    "load",
    "read_json",
    "require_results",
]

TRACE_SUFFIX: Final = ".trace.json"
_TEXTS: Final = ("configuration", "metric", "unit")
_TEXTS_IF_ANY: Final = (
    "cpu",
    "cpus",
    "direction",
    "doorbell",
    "driver",
    "guest",
    "hlt",
    "link",
    "load",
    "placement",
    "profile",
    "reason",
    "tracing",
    "work",
)
_NUMBERS_IF_ANY: Final = (*(name for name in FIELDS if name not in _TEXTS_IF_ANY), "retries")  # or null: not known
LARGEST: Final = 1e15
"""No measured value is larger: in nanoseconds, this is eleven days."""
_LONGEST_NAME: Final = 200  # letters of a configuration, a metric, a link: they become labels in charts
_LARGEST_BYTES: Final = 64 << 20  # the longest results so far have 5 MB
_DRAWN: Final = 3  # the newest results of each experiment and profile that get charts
_MOST_NAMED: Final = 3  # files that a message names


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one bench. ``samples``: one map a value, with configuration, metric, unit, value and run."""

    path: Path
    written: datetime
    bench: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    complete: bool
    samples: tuple[Mapping[str, Any], ...]
    by_metric: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]  # (configuration, metric): raw results are long
    drawn: bool = True  # whether it is new enough to have charts

    def select(self, **keys: Any) -> list[Mapping[str, Any]]:
        """The samples that have all of ``keys``, in the order of measurement."""
        every: Sequence[Mapping[str, Any]] = self.samples
        if "configuration" in keys and "metric" in keys:
            every = self.by_metric.get((keys["configuration"], keys["metric"]), ())
        for key, value in keys.items():
            every = [sample for sample in every if sample.get(key) == value]
        return list(every)

    def values(self, **keys: Any) -> list[float]:
        """Their values, but for measurements that their own counters contradict."""
        return [sample["value"] for sample in self.select(**keys) if is_valid(sample)]

    def distinct(self, key: str, **keys: Any) -> list[Any]:
        """The values of ``key`` among them, in the order of first appearance; samples without it are passed over."""
        return list(dict.fromkeys(sample[key] for sample in self.select(**keys) if key in sample))


@dataclass(slots=True)
class Collection:
    """All results of a directory, oldest first; ``refused``: file name and reason; ``traces``: timeline files.

    ``undrawn``: charts that could not be drawn, and why.
    """

    directory: Path
    results: list[Result] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    traces: list[Path] = field(default_factory=list)
    undrawn: list[tuple[str, str]] = field(default_factory=list)

    def of(self, bench: str) -> list[Result]:
        """The results of one bench, oldest first."""
        return [result for result in self.results if result.bench == bench]


def load(directory: Path) -> Collection:
    """Everything in ``directory`` that is a result. ConfigError if it can't be listed, BenchError if there is none."""
    found = Collection(directory)
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".json")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {directory}: {getattr(error, 'strerror', None) or error}") from error
    for path in paths:
        if path.name.endswith(TRACE_SUFFIX):
            found.traces.append(path)
            continue
        try:
            found.results.append(_read(path))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            found.refused.append((path.name, _why(error)))
    require_results(found)
    found.results.sort(key=lambda result: (result.written, result.path.name))
    found.results = _with_charts(found.results)
    return found


def require_results(found: Collection) -> None:
    """BenchError if there is none; the first files that were left out are named in it."""
    if found.results:
        return
    text = f"no results in {found.directory}; make some: worldswitch bench NAME --json {found.directory}/NAME.json"
    if found.refused:
        left_out = "; ".join(f"{name}: {reason}" for name, reason in found.refused[:_MOST_NAMED])
        more = len(found.refused) - _MOST_NAMED
        text += f" (left out: {left_out}{f'; and {more} more' if more > 0 else ''})"
    raise BenchError(text)


def _with_charts(results: Sequence[Result]) -> list[Result]:
    """The same, oldest first, of which the newest are to be drawn.

    Hundreds of results in a directory are many runs of a few experiments. All have their tables; drawing them all would
    take minutes, and nobody compares hundreds of charts.
    """
    seen: dict[tuple[str, ...], int] = {}
    marked = []
    for result in reversed(results):
        kind = (result.bench, *sorted(map(str, result.distinct("profile"))))
        seen[kind] = seen.get(kind, 0) + 1
        marked.append(replace(result, drawn=seen[kind] <= _DRAWN))
    return marked[::-1]


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    return (error.strerror if isinstance(error, OSError) else str(error)) or "cannot be read"


def read_json(path: Path, largest: int) -> tuple[Any, float]:
    """What a file of at most ``largest`` bytes holds, and when it was modified. OSError or ValueError if it can't be.

    Opening does not wait: a FIFO, or a device, may have a name that ends in .json.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > largest:
            raise ValueError(f"too large: {status.st_size >> 20} MiB, where {largest >> 20} are the most")
        return json.loads(file.read(largest + 1)), status.st_mtime


def _read(path: Path) -> Result:
    record, modified = read_json(path, _LARGEST_BYTES)
    if not isinstance(record, dict) or not isinstance(record.get("bench"), str):
        raise ValueError("not a bench result")
    samples, settings, machine = (record.get(key) for key in ("samples", "settings", "machine"))
    if not isinstance(samples, list) or not isinstance(settings, dict) or not isinstance(machine, dict):
        raise ValueError("a bench result without samples, settings or machine")
    kept = tuple(sample for sample in samples if _counts(sample))
    by_metric: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sample in kept:
        by_metric.setdefault((sample["configuration"], sample["metric"]), []).append(sample)
    return Result(
        path=path,
        written=_written(record.get("written"), modified),
        bench=record["bench"],
        settings=settings,
        machine=machine,
        complete=record.get("complete") is True,
        samples=kept,
        by_metric=by_metric,
    )


def _written(said: Any, modified: float) -> datetime:
    """When it was written, as it says itself; a file of an earlier version, which does not, when it was modified."""
    if said is not None and not isinstance(said, str):
        raise ValueError("a time of writing that is no text")
    try:
        when = datetime.fromtimestamp(modified) if said is None else datetime.fromisoformat(said)
        return when.astimezone()
    except (OverflowError, OSError):  # the first and the last year, where another time zone's year does not exist
        raise ValueError(f"a time of writing that this machine's clock cannot show: {said}") from None


def _counts(sample: Any) -> bool:
    """Whether a sample has a finite value. Raises ValueError for what is no sample at all."""
    if not isinstance(sample, dict) or not all(isinstance(sample.get(key), str) for key in _TEXTS):
        raise ValueError("a sample without configuration, metric or unit")
    value, run = sample.get("value"), sample.get("run")
    if type(run) is not int or isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a sample without value or run")
    if any(isinstance(entry, list | dict) for entry in sample.values()):
        raise ValueError("a sample with more than one value")
    if wrong := [key for key in (*_TEXTS, *_TEXTS_IF_ANY) if not is_name(sample.get(key, ""))]:
        raise ValueError(f"a sample whose {wrong[0]} is no text of at most {_LONGEST_NAME} printable letters")
    if wrong := [key for key in _NUMBERS_IF_ANY if not _is_number_or_null(sample.get(key))]:
        raise ValueError(f"a sample whose {wrong[0]} is no number of at most {LARGEST:g}")
    if not isinstance(sample.get("valid", True), bool):
        raise ValueError("a sample that is neither valid nor invalid")
    if not is_size(sample.get("pace_ms", 1)):
        raise ValueError("a sample whose pace_ms is no number above 0")
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"a value beyond {LARGEST:g}, which nothing measures")
    return True


def is_name(text: Any) -> TypeGuard[str]:
    """Whether it may be printed, drawn, and written to an SVG file."""
    return isinstance(text, str) and len(text) <= _LONGEST_NAME and text.isprintable()


def _is_number_or_null(number: Any) -> bool:
    if number is None:
        return True
    return isinstance(number, int | float) and not isinstance(number, bool) and -LARGEST <= number <= LARGEST


def is_size(number: Any) -> TypeGuard[float]:
    """Whether it is a number that may stand on an axis of powers of two."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= LARGEST
