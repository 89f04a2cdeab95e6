"""The page: every section on it, nothing from outside, nothing unescaped, partial and missing results said to be so."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lab import cli
from lab.reporting import book, results
from lab.reporting.blocks import Chart, Timeline
from lab.reporting.plots import Drawing
from lab.reporting.timeline import timeline
from lab.tracing.segments import SEGMENTS
from machine.errors import BenchError, ConfigError
from tests.kit.results import (
    MACHINE,
    breakdown,
    chrome_trace,
    counts,
    handoff,
    idle,
    latency,
    ping,
    sample,
    store,
    sweep,
    throughput,
)

BENCHES = ("throughput", "latency", "breakdown", "sweep", "idle", "combining", "counts", "ping", "handoff")
VOID = {"meta", "path", "use", "rect", "br"}


def no_drawing(chart: Chart) -> Drawing:
    """Stands in for matplotlib, which a page's text does not need."""
    return Drawing(b"<svg/>", b"png", f"<svg><title>{chart.name}</title></svg>")


def make(directory: Path, drawer: Callable[[Chart], Drawing] = no_drawing) -> str:
    """The page made of what is in ``directory``."""
    output = directory / "out" / "page.html"
    output.parent.mkdir()
    book.write(results.load(directory), output, drawer)
    return output.read_text()


def everything(directory: Path) -> None:
    """A result of each kind."""
    store(directory, "throughput", throughput(native=90, v20=60, ports=88, combining=89, optimised=90))
    limits = throughput("none", "fast", native=3000, v20=300, optimised=900, relay=1000, vde=600)
    store(directory, "throughput", limits, "limits.json")
    store(directory, "idle", idle(native=0.9, optimised=0.3, without=0.25, ports=0.1, v20=0.0))
    store(directory, "sweep", sweep())
    store(directory, "counts", counts())
    store(directory, "handoff", handoff())
    store(directory, "latency", latency())
    store(directory, "ping", ping())
    store(
        directory, "combining", [sample("combining off", "idle_share", 0.1), sample("combine_cap 3", "idle_share", 0.2)]
    )
    store(directory, "breakdown", breakdown())
    (directory / "packets.trace.json").write_text(json.dumps(chrome_trace()))


class Balance(HTMLParser):
    """Checks that elements are closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_section_is_there_and_linked(tmp_path: Path) -> None:
    """With a result of each experiment, each has its section, a table, and an entry in the table of contents."""
    everything(tmp_path)
    page = make(tmp_path)
    for anchor in (*BENCHES, "limits"):
        section = page.split(f'<h2 id="{anchor}">')[1].split("</section>")[0]
        assert "<table>" in section
        assert f'href="#{anchor}"' in page


def test_page_is_well_formed(tmp_path: Path) -> None:
    """Every element is closed where it belongs."""
    everything(tmp_path)
    balance = Balance()
    balance.feed(make(tmp_path))
    assert balance.open == []


def test_missing_experiments_name_their_commands(tmp_path: Path) -> None:
    """A section without results says which command makes them."""
    store(tmp_path, "handoff", handoff())
    page = make(tmp_path)
    for bench in BENCHES[:-1]:
        assert f"worldswitch bench {bench} " in page
    assert "worldswitch bench handoff --json" not in page


def test_partial_results_are_marked(tmp_path: Path) -> None:
    """A file that says it is not complete is called partial at its section and at the top; others are not."""
    store(tmp_path, "counts", counts())
    assert "PARTIAL" not in make(tmp_path)
    other = tmp_path / "partial"
    other.mkdir()
    store(other, "counts", counts(), complete=False)
    page = make(other)
    assert "PARTIAL" in page.split("<main>")[0]
    assert "PARTIAL" in page.split('<h2 id="counts">')[1].split("</section>")[0]


def test_text_from_results_is_escaped(tmp_path: Path) -> None:
    """Names, settings and the machine's words come from files; none of them becomes markup."""
    nasty = "<script>alert(1)</script>"
    samples = [sample(nasty, "goodput_mbps", 1.0, direction="transmit", link=nasty, profile="paper")]
    store(tmp_path, "throughput", samples, settings={"seconds": 1, nasty: nasty}, machine=MACHINE | {"kernel": nasty})
    (tmp_path / "<b>.json").write_text("{")
    page = make(tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page


def test_figures_of_the_paper_are_in_marked_columns(tmp_path: Path) -> None:
    """The paper's 64 Mb/s stand in a cell that is marked as the paper's; ours stand in cells that aren't."""
    store(tmp_path, "throughput", throughput(native=90, v20=60))
    page = make(tmp_path)
    assert '<td class="paper">64</td>' in page
    assert "<td>61.5 [61.0..62.0]</td>" in page


def test_papers_figures_stay_with_the_papers_wire(tmp_path: Path) -> None:
    """Where wire or profile are not the paper's, none of its figures stands beside ours."""
    store(tmp_path, "throughput", throughput("1gbit", "fast", native=900, v20=200, optimised=850))
    assert '<td class="paper">64</td>' not in make(tmp_path)


def test_prose_follows_the_figures(tmp_path: Path) -> None:
    """The same sentences with other figures say otherwise: order of idle times, CPU-bound, counts."""
    samples = idle(native=0.9, optimised=0.2, without=0.25, ports=0.1, v20=0.2)
    store(tmp_path, "idle", samples)
    twelve = counts()
    twelve[0]["value"] = 9
    store(tmp_path, "counts", twelve)
    page = make(tmp_path)
    assert "the order is NOT the paper&#x27;s: it rises from optimised to without notification, ports to 2.0" in page
    assert "2.0 is not CPU-bound at 100mbit" in page
    assert "NOT the paper&#x27;s counts" in page


def test_steps_within_the_spread_are_none(tmp_path: Path) -> None:
    """Idle shares that are alike, or whose ranges overlap, prove no order, and the page says so; clear steps do."""
    clear = idle(native=0.9, optimised=0.3, without=0.2, ports=0.1, v20=0.0)
    store(tmp_path, "idle", clear)
    assert "Here, the order is the paper&#x27;s. 2.0 is CPU-bound" in make(tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    store(again, "idle", idle(native=0.9, optimised=0.2, without=0.2, ports=0.1, v20=0.1))
    assert "no step is larger than the spread from optimised to without notification, ports to 2.0." in make(again)


def test_files_that_are_no_results_are_named(tmp_path: Path) -> None:
    """Broken JSON, other JSON, and samples without values are left out, and the page says so."""
    store(tmp_path, "counts", counts())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("[1]")
    store(tmp_path, "idle", [sample("2.0", "idle_share", "0.5")], "text.json")  # type: ignore[arg-type]
    store(tmp_path, "idle", [sample("2.0", "idle_share", 0.5, link=7)], "wire.json")
    found = results.load(tmp_path)
    names = [name for name, _ in found.refused]
    assert names == ["broken.json", "other.json", "text.json", "wire.json"]
    page = make(tmp_path)
    assert all(name in page for name in names)


@pytest.mark.parametrize("bench", BENCHES)
def test_samples_without_their_keys_do_no_harm(tmp_path: Path, bench: str) -> None:
    """A result whose samples lack what the experiment writes, or have strange values there, still makes a page."""
    strange = dict.fromkeys(("link", "profile", "direction", "driver", "load", "hlt", "cpu", "placement"), "<&>")
    samples = [sample("2.0", "x", 1.0), sample("2.0", "goodput_mbps", 2.0, operation_bytes="many", **strange)]
    store(tmp_path, bench, samples)
    assert "</html>" in make(tmp_path)


def test_values_that_are_not_finite_are_passed_over(tmp_path: Path) -> None:
    """NaN and Infinity, which Python's JSON allows, count as not measured."""
    store(tmp_path, "counts", [*counts(), sample("2.0", "irqs_per_packet", float("nan"))])
    assert len(results.load(tmp_path).results[0].samples) == len(counts())


def test_results_know_when_they_were_written(tmp_path: Path) -> None:
    """A copy, of a repository for instance, has the file's own date; what is no date is named, as any other defect."""
    for name, written in (("b.json", "2026-11-24T04:16:00+00:00"), ("a.json", "2026-11-24T04:17:00+00:00")):
        store(tmp_path, "counts", counts(), name, written=written)
    store(tmp_path, "counts", counts(), "c.json")  # as the first version wrote them: the file's date
    os.utime(tmp_path / "c.json", (0, 0))
    store(tmp_path, "counts", counts(), "bad.json", written="yesterday")
    store(tmp_path, "counts", counts(), "worse.json", written=7)
    found = results.load(tmp_path)
    assert [result.path.name for result in found.results] == ["c.json", "b.json", "a.json"]
    assert found.results[1].written == datetime(2026, 11, 24, 4, 16, tzinfo=UTC)
    assert [name for name, _ in found.refused] == ["bad.json", "worse.json"]


def test_machines_are_told_apart(tmp_path: Path) -> None:
    """Results of two machines are listed apart, with a warning."""
    store(tmp_path, "counts", counts())
    assert "MORE THAN ONE" not in make(tmp_path)
    store(tmp_path, "handoff", handoff(), machine=MACHINE | {"kernel": "7.0"})
    (tmp_path / "out" / "page.html").unlink()
    (tmp_path / "out").rename(tmp_path / "old")
    assert "MORE THAN ONE" in make(tmp_path)


def test_timeline_shows_one_packet_each_way(tmp_path: Path) -> None:
    """From the trace come one packet sent and one received, spans within their window, nesting kept."""
    everything(tmp_path)
    charts = {b.name: b for b in timeline(results.load(tmp_path)).blocks if isinstance(b, Chart)}
    sent = charts["timeline-1-out"].drawing
    assert isinstance(sent, Timeline)
    assert [(s.lane, s.begin, s.end, s.depth) for s in sent.spans if s.label.startswith("write")] == [
        ("vmapp", 20, 30, 1)
    ]
    received = charts["timeline-1-in"].drawing
    assert isinstance(received, Timeline)
    assert [(s.label, s.begin, s.end) for s in received.spans] == [
        ("read() on the TAP", 0, 5),
        ("interrupt handler", 20, 50),
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"traceEvents": 3}', '{"traceEvents": []}', "[" * 100_000])
def test_timeline_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    """A broken or empty timeline file costs a line on the page, not the page."""
    store(tmp_path, "counts", counts())
    (tmp_path / "bad.trace.json").write_text(text)
    section = make(tmp_path).split('<h2 id="timeline">')[1].split("</section>")[0]
    assert "bad.trace.json" in section
    assert 'class="warning"' in section


def test_timeline_without_a_trace_is_made_of_medians(tmp_path: Path) -> None:
    """Where only segments were measured, their medians are laid end to end, each in its process's lane."""
    store(tmp_path, "latency", latency())
    (chart,) = [b for b in timeline(results.load(tmp_path)).blocks if isinstance(b, Chart)]
    assert isinstance(chart.drawing, Timeline)
    spans = chart.drawing.spans
    assert [span.begin for span in spans] == [4.0 * n for n in range(len(SEGMENTS))]
    assert {span.lane for span in spans} == {"guest", "vmm", "vmapp"}


def test_breakdown_sets_rows_beside_the_papers(tmp_path: Path) -> None:
    """A row of Table 1 has the paper's share of the total and average; a row that it lacks has none."""
    store(tmp_path, "breakdown", breakdown())
    page = make(tmp_path)
    row = page.split("transmitting via the host TAP (VMNet)</th>")[1].split("</tr>")[0]
    assert re.findall(r">([^<]*)</td>", row) == ["8.7", "10.0", "13.8", "9.0"]
    assert "something new" in page


def test_directory_without_results_is_one_line(tmp_path: Path) -> None:
    """Nothing to report on, or no directory: an error that says what to do."""
    with pytest.raises(BenchError, match="worldswitch bench NAME --json"):
        results.load(tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        results.load(tmp_path / "absent")


def test_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A directory that isn't there is an error; nothing half-written stays."""
    store(tmp_path, "counts", counts())
    with pytest.raises(BenchError, match="cannot write"):
        book.write(results.load(tmp_path), tmp_path / "absent" / "page.html", no_drawing)
    assert not list(tmp_path.rglob("*.partial"))


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    """With the drawings that matplotlib makes, the page names no address, runs no script, and no two ids are alike."""
    pytest.importorskip("matplotlib")
    from lab.reporting.plots import draw

    everything(tmp_path)
    page = make(tmp_path, draw)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<img|src=", page)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', page)) <= set(ids)
    svgs, pngs = (sorted((tmp_path / "out").glob(f"*.{kind}")) for kind in ("svg", "png"))
    assert len(svgs) == len(pngs) > 6
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)


def test_command_writes_beside_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`worldswitch report DIR` writes DIR/report.html and says so; a name that is no page's is refused."""
    pytest.importorskip("matplotlib")
    store(tmp_path, "counts", counts())
    assert cli.main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "1 results, 1 plots" in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path), "--output", str(tmp_path / "counts.json")]) == 2
    assert ".html" in capsys.readouterr().err


def test_report_without_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error names it."""
    from lab.reporting import plots
    from lab.reporting.blocks import Bars
    from machine.errors import SetupError

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(plots.importlib, "import_module", absent)
    with pytest.raises(SetupError, match=re.escape("worldswitch[report]")):
        plots.draw(Chart("x", "x", "x", Bars([], [], "")))
