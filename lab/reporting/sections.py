"""What the sections of all experiments have in common: what is missing, what is partial, how figures are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lab.bench.remarks import remarks_on, runs_missing
from lab.bench.tables import NOTHING
from lab.readings import quotient
from lab.reporting.blocks import Block, Chart, Prose
from lab.reporting.results import Result

__all__ = [
    "STOCK",
    "differences",
    "drawn",
    "heading",
    "is_stock",
    "missing",
    "of_guest",
    "provenance",
    "ratio",
    "slug",
]

STOCK: Final = (
    "The guest is a stock one under QEMU, driver pcnet32, and the load is iperf3 in all configurations. QEMU's time is "
    "the guest's, too; the paper's guest ran on the processor itself, so its figures are not set beside these."
)
"""For a section that shows a stock guest's figures."""

_OF_MACHINE: Final = ("processor", "cpus", "architecture", "kernel")
_OF_CODE: Final = ("python", "packages", "source")
_LONGEST_SLUG: Final = 100  # a file's name has at most 255 bytes
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")


def missing(bench: str, options: str = "") -> Prose:
    """Nothing was measured; this makes it."""
    command = f"worldswitch bench {bench}{options} --json {bench}.json"
    return Prose(f"Not measured: there is no result of it in this directory. `{command}` makes one.", warning=True)


def provenance(result: Result) -> list[Block]:
    """Where the figures that follow come from; says so if they are not all that were wanted."""
    runs = len(set(result.distinct("run")))
    text = f"`{result.path.name}`, {result.written:%Y-%m-%d %H:%M %Z}, {runs} run{'' if runs == 1 else 's'}"
    seconds = result.settings.get("seconds")
    if isinstance(seconds, int | float):
        text += f" of {seconds:g} s a measurement"
    figures = "medians, [least..most] where there is more than one" if runs > 1 else "of that run: no spread is known"
    fewer = runs_missing(result.samples, result.settings.get("runs"))
    text += f", {fewer} measurements FEWER than asked for" if fewer else ""
    blocks: list[Block] = [Prose(f"{text}. Figures are {figures}.")]
    blocks += [Prose(f"{line}.", warning=True) for line in remarks_on(result.samples).lines]
    if not result.complete:
        blocks.append(
            Prose("PARTIAL: this bench was interrupted or failed; what it had measured is shown.", warning=True)
        )
    return blocks


def heading(result: Result, every: Sequence[Result]) -> list[Block]:
    """``provenance``, and a word on several files of one bench: whether they may be compared at all."""
    note: list[Block] = []
    if len(every) > 1:
        number = next(n for n, other in enumerate(every, 1) if other is result)  # comparing them would take long
        older = "" if result.drawn else " Newer ones are drawn; this one's figures are in its tables."
        note = [Prose(f"Result {number} of {len(every)} of this experiment.{older}")]
        others = differences(result, every)
        if others:
            note.append(
                Prose(
                    f"Not of the same {' and '.join(others)} as another of them: don't compare figures.", warning=True
                )
            )
    return note + provenance(result)


def differences(result: Result, every: Sequence[Result]) -> list[str]:
    """In what a result differs from another one of the same experiment: machine, and version of the code."""
    kinds = {"machine": _OF_MACHINE, "version of the code": _OF_CODE}
    return [kind for kind, names in kinds.items() if any(_facts(one, names) != _facts(result, names) for one in every)]


def _facts(result: Result, names: Sequence[str]) -> list[str]:
    return [str(result.machine.get(name)) for name in names]


def drawn(result: Result, *charts: Chart) -> list[Chart]:
    """The charts of a result that is to be drawn; none of an older one (``lab.reporting.results``)."""
    return list(charts) if result.drawn else []


def is_stock(result: Result) -> bool:
    """Whether a stock guest was measured (``--guest qemu``), not the built-in one."""
    return bool(result.distinct("guest"))


def of_guest(result: Result) -> str:
    """For titles: whose guest it was, if it wasn't the built-in one."""
    return ", stock guest under QEMU" if is_stock(result) else ""


def ratio(above: Sequence[float], below: Sequence[float], digits: int = 2) -> str:
    """The quotient of two medians; "-" if one is missing or the second is zero."""
    found = quotient(above, below)
    return NOTHING if found is None else f"{found:.{digits}f}"


def slug(*parts: object) -> str:
    """A name for a file and an id, of lower-case letters, digits and hyphens, whatever the parts are."""
    return _NOT_IN_NAMES.sub("-", " ".join(map(str, parts)).lower()).strip("-")[:_LONGEST_SLUG]
