"""The whole report: its introduction, its sections in the paper's order, its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from html import escape
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

from lab.load.disturbance import FIELDS
from lab.outfile import OutFile
from lab.reporting.blocks import Block, Chart, Prose, Section, Table
from lab.reporting.breakdown import breakdown
from lab.reporting.combining import combining
from lab.reporting.counts import counts
from lab.reporting.handoffs import handoff
from lab.reporting.latency import latency
from lab.reporting.machine_time import idle, sweep
from lab.reporting.page import render
from lab.reporting.ping import ping
from lab.reporting.plots import Drawing, draw
from lab.reporting.qemu import qemu
from lab.reporting.results import Collection, Result, require_results
from lab.reporting.throughput import limits, throughput
from lab.reporting.timeline import timeline
from machine.errors import BenchError

__all__ = ["TITLE", "check", "sections", "write"]

TITLE: Final = "worldswitch: the paper's experiments, measured again"

_SECTIONS: Final[tuple[Callable[[Collection], Section], ...]] = (
    throughput,
    latency,
    timeline,
    breakdown,
    sweep,
    idle,
    combining,
    counts,
    handoff,
    ping,
    qemu,
    limits,
)
_FACTS: Final = ("processor", "cpus", "architecture", "kernel", "python", "source")  # source: of the code, a digest
_CHOSEN: Final = ("profile", "driver", "link", "doorbell", "cpus", "posted")
_LONGEST_CELL: Final = 2000  # letters
_STUMBLES: Final = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""What text where a number belongs, a number that no float holds, or too many of anything ends in."""

_CLOSING: Final = (
    "The paper: J. Sugerman, G. Venkitachalam, B.-H. Lim, Virtualizing I/O Devices on VMware Workstation's Hosted "
    "Virtual Machine Monitor, USENIX Annual Technical Conference 2001. Its figures stand in tinted columns and hatched "
    "bars; all others were measured in the runs named beside them."
)


def check(found: Collection) -> None:
    """Takes what nothing can be made of out of ``results`` and into ``refused``; BenchError if nothing is left.

    ``results.load`` checks what it knows of. Settings and the machine's words are free, though, and experiments change:
    a file that one section stumbles over must not take the others with it. So each result is tried alone.
    """
    for result in list(found.results):
        alone = Collection(found.directory, [result])
        try:
            render(TITLE, _introduction(alone), sections(alone), _NotDrawn(), _CLOSING)
        except _STUMBLES as error:
            found.results = [other for other in found.results if other is not result]
            found.refused.append((result.path.name, f"no page can be made of it ({type(error).__name__})"))
    require_results(found)
    timeline(found)  # which finds traces that are none


class _NotDrawn(dict[str, str]):
    """In place of drawings, where only words are tried."""

    def __missing__(self, name: str) -> str:
        return ""


def sections(found: Collection) -> list[Section]:
    """Every section; one whose experiment was not run says how to run it."""
    return [make(found) for make in _SECTIONS]


def write(found: Collection, output: Path | OutFile, drawer: Callable[[Chart], Drawing] = draw) -> list[Path]:
    """Writes the page to ``output`` and each chart beside it as SVG and PNG; the paths, the page first.

    The page holds the drawings, too, so one that goes to standard output goes there alone. BenchError if one can't be
    written.
    """
    page = output if isinstance(output, OutFile) else OutFile(output, BenchError)
    every = sections(found)
    inline: dict[str, str] = {}
    files: dict[Path, bytes] = {}
    path = Path(page.path)
    for chart in _charts(every):
        try:
            drawing = drawer(chart)
        except _STUMBLES as error:
            found.undrawn.append((chart.name, str(error) or type(error).__name__))
            inline[chart.name] = f'<p class="warning">Not drawn: {escape(found.undrawn[-1][1])}.</p>'
            continue
        inline[chart.name] = drawing.inline
        files[path.with_name(f"{path.stem}-{chart.name}.svg")] = drawing.svg
        files[path.with_name(f"{path.stem}-{chart.name}.png")] = drawing.png
    text = render(TITLE, _introduction(found), every, inline, _CLOSING)
    page.write(text.encode("utf-8", "backslashreplace"))  # names of files may hold bytes that are no text
    if page.is_standard_output:
        return [path]
    for place, content in files.items():
        OutFile(place, BenchError).write(content)
    return [path, *files]


def _charts(every: Iterable[Section]) -> Iterator[Chart]:
    """All charts, each with a name of its own: two texts that differ may make the same name."""
    taken: set[str] = set()
    for section in every:
        for at, block in enumerate(section.blocks):
            if isinstance(block, Chart):
                names = chain((block.name,), (f"{block.name}-{number}" for number in count(2)))
                block = replace(block, name=next(name for name in names if name not in taken))
                taken.add(block.name)
                section.blocks[at] = block
                yield block


def _introduction(found: Collection) -> list[Block]:
    today = datetime.now().astimezone()
    blocks: list[Block] = [
        Prose(
            f"Made {today:%Y-%m-%d %H:%M %Z} from {len(found.results)} result files. Every experiment of the paper's "
            "sections 3 and 4 that was run is set beside the paper's figures. The paper measured a 733 MHz Pentium III "
            "on 100 Mb/s Ethernet, so compare shares, ratios and order, not microseconds."
        )
    ]
    partial = [result.path.name for result in found.results if not result.complete]
    if partial:
        blocks.append(
            Prose(f"PARTIAL results, from runs that did not reach their end: {', '.join(partial)}.", warning=True)
        )
    unwatched = [result.path.name for result in found.results if not _was_watched(result)]
    if unwatched:
        blocks.append(
            Prose(
                f"Whether the machine was busy with something else is not known of {', '.join(unwatched)}: they do not "
                "say what others had of its CPUs."
            )
        )
    blocks += [Prose(f"Left out: `{name}`: {reason}.", warning=True) for name, reason in found.refused]
    return [*blocks, _machines(found), _settings(found)]


def _was_watched(result: Result) -> bool:
    """Whether its samples tell under which conditions they were measured; those of earlier versions do not."""
    return any(FIELDS[0] in sample for sample in result.samples)


def _machines(found: Collection) -> Table:
    """One row a machine; results of different machines must not be compared, and this shows it."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for result in found.results:
        packages = result.machine.get("packages")
        versions = ", ".join(f"{k} {v}" for k, v in packages.items()) if isinstance(packages, dict) else ""
        facts = tuple(_cut(text) for text in (*(str(result.machine.get(fact, "?")) for fact in _FACTS), versions))
        rows.setdefault(facts, []).append(result.path.name)
    caption = "Machine and versions"
    if len(rows) > 1:
        caption += ": MORE THAN ONE; don't compare figures of different rows"
    return Table(
        caption, (*_FACTS, "packages", "results"), [[*facts, ", ".join(names)] for facts, names in rows.items()]
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}..."


def _settings(found: Collection) -> Table:
    rows = [
        [r.path.name, r.bench, f"{r.written:%Y-%m-%d %H:%M}", "yes" if r.complete else "PARTIAL", _brief(r.settings)]
        for r in found.results
    ]
    return Table("Results and the settings of their runs", ("file", "bench", "written", "complete", "settings"), rows)


def _brief(settings: Any) -> str:
    """Settings in one line; lists of whole stacks' settings are cut to what was chosen."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, list | dict)}
    texts = [f"{key} {json.dumps(value)}" for key, value in plain.items()]
    several = settings.get("stacks")
    stacks = [settings.get("stack"), *(several if isinstance(several, list) else [])]
    texts += [f"stack: {_stack(stack)}" for stack in stacks if isinstance(stack, dict)]
    return _cut("; ".join(texts))


def _stack(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(settings.get(key))}" for key in _CHOSEN)
