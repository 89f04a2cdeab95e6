"""The whole report: its introduction, its sections in the paper's order, its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lab.load.disturbance import FIELDS
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
from lab.reporting.results import Collection, Result
from lab.reporting.throughput import limits, throughput
from lab.reporting.timeline import timeline
from machine.errors import BenchError

__all__ = ["TITLE", "sections", "write"]

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
_CLOSING: Final = (
    "The paper: J. Sugerman, G. Venkitachalam, B.-H. Lim, Virtualizing I/O Devices on VMware Workstation's Hosted "
    "Virtual Machine Monitor, USENIX Annual Technical Conference 2001. Its figures stand in tinted columns and hatched "
    "bars; all others were measured in the runs named beside them."
)


def sections(found: Collection) -> list[Section]:
    """Every section; one whose experiment was not run says how to run it."""
    return [make(found) for make in _SECTIONS]


def write(found: Collection, output: Path, drawer: Callable[[Chart], Drawing] = draw) -> list[Path]:
    """Writes the page to ``output`` and each chart beside it as SVG and PNG; the paths, the page first.

    BenchError if one can't be written.
    """
    every = sections(found)
    charts = [block for section in every for block in section.blocks if isinstance(block, Chart)]
    drawn = {chart.name: drawer(chart) for chart in charts}
    inline = {name: drawing.inline for name, drawing in drawn.items()}
    page = render(TITLE, _introduction(found), every, inline, _CLOSING)
    files = {output: page.encode()}
    for name, drawing in drawn.items():
        files[output.with_name(f"{output.stem}-{name}.svg")] = drawing.svg
        files[output.with_name(f"{output.stem}-{name}.png")] = drawing.png
    for path, content in files.items():
        _store(path, content)
    return list(files)


def _store(path: Path, content: bytes) -> None:
    """All of the file or none: a full disk must not leave half a page that looks whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BenchError(f"cannot write {path}: {error.strerror}") from error


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
        facts = (*(str(result.machine.get(fact, "?")) for fact in _FACTS), versions)
        rows.setdefault(facts, []).append(result.path.name)
    caption = "Machine and versions"
    if len(rows) > 1:
        caption += ": MORE THAN ONE; don't compare figures of different rows"
    return Table(
        caption, (*_FACTS, "packages", "results"), [[*facts, ", ".join(names)] for facts, names in rows.items()]
    )


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
    return "; ".join(texts)


def _stack(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(settings.get(key))}" for key in _CHOSEN)
