"""Bench results as files: what ``lab.bench.samples.Recorder`` has written, read back and checked.

A directory may hold anything; a file that is not a result is left out, and why is said on the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lab.bench.remarks import is_valid
from machine.errors import BenchError, ConfigError

__all__ = ["TRACE_SUFFIX", "Collection", "Result", "load"]

TRACE_SUFFIX: Final = ".trace.json"
_TEXTS: Final = ("configuration", "metric", "unit")
_TEXTS_IF_ANY: Final = (
    "cpu",
    "direction",
    "doorbell",
    "driver",
    "guest",
    "hlt",
    "link",
    "load",
    "placement",
    "profile",
)
_LARGEST_BYTES: Final = 256 << 20


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

    def select(self, **keys: Any) -> list[Mapping[str, Any]]:
        """The samples that have all of ``keys``, in the order of measurement."""
        every: Sequence[Mapping[str, Any]] = self.samples
        if "configuration" in keys and "metric" in keys:
            every = self.by_metric.get((keys["configuration"], keys["metric"]), ())
        return [s for s in every if all(s.get(key) == value for key, value in keys.items())]

    def values(self, **keys: Any) -> list[float]:
        """Their values, but for measurements that their own counters contradict."""
        return [sample["value"] for sample in self.select(**keys) if is_valid(sample)]

    def distinct(self, key: str, **keys: Any) -> list[Any]:
        """The values of ``key`` among them, in the order of first appearance; samples without it are passed over."""
        return list(dict.fromkeys(sample[key] for sample in self.select(**keys) if key in sample))


@dataclass(slots=True)
class Collection:
    """All results of a directory, oldest first; ``refused``: file name and reason; ``traces``: timeline files."""

    directory: Path
    results: list[Result] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    traces: list[Path] = field(default_factory=list)

    def of(self, bench: str) -> list[Result]:
        """The results of one bench, oldest first."""
        return [result for result in self.results if result.bench == bench]


def load(directory: Path) -> Collection:
    """Everything in ``directory`` that is a result. ConfigError if it can't be listed, BenchError if there is none."""
    found = Collection(directory)
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".json" and path.is_file())
    except OSError as error:
        raise ConfigError(f"cannot read {directory}: {error.strerror}") from error
    for path in paths:
        if path.name.endswith(TRACE_SUFFIX):
            found.traces.append(path)
            continue
        try:
            found.results.append(_read(path))
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            found.refused.append((path.name, reason or "cannot be read"))
    if not found.results:
        raise BenchError(f"no results in {directory}; make some: worldswitch bench NAME --json {directory}/NAME.json")
    found.results.sort(key=lambda result: (result.written, result.path.name))
    return found


def _read(path: Path) -> Result:
    status = path.stat()
    if status.st_size > _LARGEST_BYTES:
        raise ValueError("too large to be a result")
    record = json.loads(path.read_bytes())
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
        written=_written(record.get("written"), status.st_mtime),
        bench=record["bench"],
        settings=settings,
        machine=machine,
        complete=record.get("complete") is True,
        samples=kept,
        by_metric=by_metric,
    )


def _written(said: Any, modified: float) -> datetime:
    """When it was written, as it says itself; a file of an earlier version, which does not, when it was modified."""
    if said is None:
        return datetime.fromtimestamp(modified).astimezone()
    if not isinstance(said, str):
        raise ValueError("a time of writing that is no text")
    return datetime.fromisoformat(said).astimezone()


def _counts(sample: Any) -> bool:
    """Whether a sample has a finite value. Raises ValueError for what is no sample at all."""
    if not isinstance(sample, dict) or not all(isinstance(sample.get(key), str) for key in _TEXTS):
        raise ValueError("a sample without configuration, metric or unit")
    value, run = sample.get("value"), sample.get("run")
    if type(run) is not int or isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a sample without value or run")
    if any(isinstance(entry, list | dict) for entry in sample.values()):
        raise ValueError("a sample with more than one value")
    if wrong := [key for key in _TEXTS_IF_ANY if not isinstance(sample.get(key, ""), str)]:
        raise ValueError(f"a sample whose {wrong[0]} is no text")
    return math.isfinite(value)
