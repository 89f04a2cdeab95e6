"""What the sections of all experiments have in common: what is missing, what is partial, how figures are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lab.bench.samples import median
from lab.bench.tables import NOTHING
from lab.reporting.blocks import Block, Chart, Prose
from lab.reporting.results import Result

__all__ = ["STOCK", "drawn", "heading", "is_stock", "missing", "of_guest", "provenance", "ratio", "slug"]

STOCK: Final = (
    "The guest is a stock one under QEMU, driver pcnet32, and the load is iperf3 in all configurations. QEMU's time is "
    "the guest's, too; the paper's guest ran on the processor itself, so its figures are not set beside these."
)
"""For a section that shows a stock guest's figures."""

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
    blocks: list[Block] = [Prose(f"{text}. Figures are medians, [least..most] where there is more than one.")]
    if not result.complete:
        blocks.append(
            Prose("PARTIAL: this bench was interrupted or failed; what it had measured is shown.", warning=True)
        )
    return blocks


def heading(result: Result, every: Sequence[Result]) -> list[Block]:
    """``provenance``, and a word on several files of one bench."""
    note: list[Block] = []
    if len(every) > 1:
        number = next(n for n, other in enumerate(every, 1) if other is result)  # comparing them would take long
        older = "" if result.drawn else " Newer ones are drawn; this one's figures are in its tables."
        note = [Prose(f"Result {number} of {len(every)} of this experiment.{older}")]
    return note + provenance(result)


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
    if not above or not below or not median(below):
        return NOTHING
    return f"{median(above) / median(below):.{digits}f}"


def slug(*parts: object) -> str:
    """A name for a file and an id, of lower-case letters, digits and hyphens, whatever the parts are."""
    return _NOT_IN_NAMES.sub("-", " ".join(map(str, parts)).lower()).strip("-")[:_LONGEST_SLUG]
