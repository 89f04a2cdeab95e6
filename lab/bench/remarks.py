"""What must be said beside figures: that a machine was busy, that a measurement is invalid, that some are missing.

From samples alone, so that a benchmark prints the same of them as the report that is made of its file.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lab.load.disturbance import FIELDS, busy_text
from lab.readings import quotient

__all__ = ["LONGEST_REASON", "Remarks", "beyond_native", "is_valid", "remarks_on", "runs_missing"]

_NOISE: Final = 0.05  # by how much a virtual machine may be better than the native one, and nobody wonders
_MOST_RUNS: Final = 1_000_000  # whoever asked for more has not written the file with a benchmark
_CPUS: Final = re.compile(r"[0-9,]{1,200}")
_MOST: Final = 8  # lines of one kind; the rest is counted
_OF_THE_SAMPLE: Final = frozenset(("metric", "unit", "value", "work", "valid", "reason", "retries", *FIELDS))
# Keys that tell measurements apart, and that no line needs: they are in the table's title, or in the row's name.
_SILENT: Final = frozenset(("run", "profile", "link", "guest", "combine_threshold", "combine_decay", "combine_cap"))

LONGEST_REASON: Final = 200
"""Characters of a sample's "reason"; a benchmark writes no longer one, and a report reads none (``results``)."""

Sample = Mapping[str, Any]


class Remarks(NamedTuple):
    """Lines, each about one measurement or a few: ``busy``, ``invalid``, and second attempts, ``repeated``."""

    busy: list[str]
    invalid: list[str]
    repeated: list[str]

    @property
    def lines(self) -> list[str]:
        """All of them, the gravest first."""
        return [*self.invalid, *self.busy, *self.repeated]


def is_valid(sample: Sample) -> bool:
    """Whether figures may be made of it."""
    return sample.get("valid") is not False


def remarks_on(samples: Iterable[Sample]) -> Remarks:
    """What is to be said of these samples; those of one measurement count once."""
    measurements = _measurements(samples)
    counts = Counter(map(_shown, measurements))
    busy: dict[str, list[tuple[float, str]]] = {}
    invalid: list[str] = []
    repeated: list[str] = []
    for one in measurements:
        name = _shown(one)
        if not is_valid(one):
            invalid.append(f"INVALID: {name}, run {one.get('run')}: {_reason(one)}")
        elif _number(one, "retries"):
            repeated.append(f"{name}, run {one.get('run')}: measured at the second attempt")
        if text := _busy(one):
            busy.setdefault(name, []).append((_number(one, "cpu_others_percent"), text))
    lines = []
    for name, found in sorted(busy.items(), key=lambda item: -max(item[1])[0]):
        lines.append(f"{max(found)[1]} ({name}, {len(found)} of {counts[name]} measured)")
    return Remarks(_cut(lines), _cut(invalid), _cut(repeated))


def beyond_native(values: Mapping[str, Sequence[float]], native: Sequence[float], *, more_is_better: bool) -> list[str]:
    """A line for each configuration that is better than the native machine, which does strictly less: that is noise.

    ``values``: what it is of, such as "optimised, transmit" -> the samples of it.
    """
    lines = []
    for name, found in values.items():
        share = quotient(found, native)
        if share is None or (share <= 1 + _NOISE if more_is_better else share >= 1 - _NOISE):
            continue
        spread = f"its own {len(native)} runs differ by {max(native) / min(native) - 1:.0%}" if min(native) > 0 else ""
        lines.append(f"ODD: {name}: {share:.2f} of native, which does less; {spread or 'native was not well'}")
    return lines


def runs_missing(samples: Iterable[Sample], wanted: Any) -> int:
    """How many measurements fewer there are than ``wanted`` runs of everything that was measured at all."""
    if type(wanted) is not int or not 1 <= wanted <= _MOST_RUNS:
        return 0
    found: dict[str, set[Any]] = {}
    for one in _measurements(samples):
        found.setdefault(_name(one, _OF_THE_SAMPLE | {"run"}), set()).add(one.get("run"))
    return sum(max(0, wanted - len(runs)) for runs in found.values())


def _measurements(samples: Iterable[Sample]) -> list[Sample]:
    """One sample of each measurement."""
    found: dict[tuple[tuple[str, Any], ...], Sample] = {}
    for sample in samples:
        key = tuple((name, value) for name, value in sample.items() if name not in _OF_THE_SAMPLE)
        known = found.get(key)
        if known is None or (is_valid(known) and not is_valid(sample)):
            found[key] = sample
    return list(found.values())


def _shown(sample: Sample) -> str:
    """What tells this measurement from the others, for a line of text; a file from elsewhere may hold anything."""
    return _printable(_name(sample, _OF_THE_SAMPLE | _SILENT))


def _name(sample: Sample, without: frozenset[str]) -> str:
    """Texts speak for themselves, numbers need to say what they are."""
    known = ((key, value) for key, value in sample.items() if key not in without)
    return ", ".join(value if isinstance(value, str) else f"{key} {value}" for key, value in known)


def _reason(sample: Sample) -> str:
    reason = sample.get("reason")
    return (_printable(reason) if isinstance(reason, str) else "") or "its counters contradict it"


def _printable(text: str) -> str:
    """One line of it, not too long, and nothing that commands a terminal."""
    return "".join(filter(str.isprintable, text[:LONGEST_REASON]))


def _busy(sample: Sample) -> str | None:
    others, steal, cpus = (
        _number(sample, "cpu_others_percent"),
        _number(sample, "cpu_steal_percent"),
        sample.get("cpus"),
    )
    if not isinstance(cpus, str) or not _CPUS.fullmatch(cpus):
        return None
    return busy_text(others, steal, cpus, _number(sample, "window_seconds"))


def _number(sample: Sample, key: str) -> float:
    value = sample.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST
    return lines if more <= 0 else [*lines[:_MOST], f"(and {more} more like these)"]
