"""Files that somebody else made, or nobody: a report names them, in one line each, and shows all the others."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import cli
from lab.bench.validity import Measured
from lab.load.disturbance import FIELDS
from lab.reporting import book, results
from lab.reporting.blocks import Bars, Chart, Point, Series
from lab.reporting.plots import Drawing
from machine.errors import BenchError
from tests.kit.results import MACHINE, chrome_trace, counts, idle, ping, sample, store, throughput

SHIPPED = Path(__file__).resolve().parents[3] / "docs" / "report"
SMALL = 200_000  # bytes
NUMBERS = (10**400, -(10**400), 10**300, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 0, -1, True, None)
YEARS = ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00")
TEXTS = ("", "x" * 10_000, "\ud800", "\0", "$\\frac{", "</svg>", *YEARS)
DISTURBED = {"window_seconds": 1.0, "cpus": "0,1", "cpu_others_percent": 31.0, "valid": False, "reason": "no frames"}
STRANGE: tuple[Any, ...] = (*NUMBERS, *TEXTS, [], {}, [[]], {"a": []})


def no_drawing(chart: Chart) -> Drawing:
    """Stands in for matplotlib."""
    return Drawing(b"<svg/>", b"png", f"<svg><title>{chart.name}</title></svg>")


def made(directory: Path) -> tuple[results.Collection, str]:
    """What `report` makes of a directory, but for the drawings."""
    found = results.load(directory)
    book.check(found)
    output = directory / "page.html"
    book.write(found, output, no_drawing)
    return found, output.read_text()


def one_sample(**changes: Any) -> list[dict[str, Any]]:
    """A result of the ping bench whose one sample differs."""
    return [ping()[0] | changes]


def result(**changes: Any) -> str:
    """A result file of the ping bench that differs in its head."""
    return json.dumps({"bench": "ping", "settings": {}, "machine": {}, "samples": ping()} | changes)


CONTENTS = {
    "a value beyond all": result(samples=one_sample(value=10**400)),
    "a value near the end of doubles": result(samples=one_sample(value=1e308)),
    "text for a value": result(samples=one_sample(value="1")),
    "text for a pace": result(samples=one_sample(pace_ms="5")),
    "a lone surrogate": result(samples=one_sample(profile="\ud800")),
    "a control character": result(samples=one_sample(profile="\0")),
    "a list of CPUs without end": result(samples=one_sample(cpus="0," * 500)),
    "a reason of several lines": result(samples=one_sample(valid=False, reason="no\nframes")),
    "a share of others beyond all": result(samples=one_sample(cpu_others_percent=1e300)),
    "text for a count of attempts": result(samples=one_sample(retries="twice")),
    "neither valid nor invalid": result(samples=one_sample(valid="no")),
    "a name without end": result(samples=one_sample(profile="x" * 5000)),
    "seconds beyond all": result(settings={"seconds": 10**400}),
    "the last year, elsewhere": result(written="9999-12-31T23:59:59-14:00"),
    "nested": "[" * 10_000,
    "nested within": '{"bench": "ping", "settings": {}, "machine": ' + '{"a":' * 10_000 + "1" + "}" * 10_001,
    "a number of 5000 digits": '{"bench": ' + "1" * 5000 + "}",
    "not UTF-8": b"\xff\xfe\xfa",
    "empty": "",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_bad_file_is_named_and_the_rest_is_shown(tmp_path: Path, content: str | bytes) -> None:
    """On the page, with a reason, beside the section of the good file."""
    store(tmp_path, "counts", counts())
    (tmp_path / "bad.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    found, page = made(tmp_path)
    assert [name for name, _ in found.refused] == ["bad.json"]
    assert "bad.json" in page.split("<main>")[0]
    assert "For each packet through the virtual NIC" in page


def test_what_a_benchmark_says_of_an_invalid_measurement_is_read(tmp_path: Path) -> None:
    """However much contradicts it: the reason is short enough for the report, and says the first contradiction."""
    faults = [f"{number} frames went through the network card, {'where more had to ' * 5}" for number in range(9)]
    for several in (faults, ["no frames " * 100], ["a", "b"]):
        notes = Measured({}, {}, *several).marked(1).notes
        store(tmp_path, "ping", [sample("native", "rtt_ms", 0.1, pace_ms=5.0, profile="fast", **notes)])
        assert notes["reason"].startswith(several[0][:50])
        found, page = made(tmp_path)
        assert not found.refused
        assert f"INVALID: native, pace_ms 5.0, run 1: {several[0][:50]}" in page


def test_what_is_no_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directories, FIFOs, links to nothing: named on stderr, a line each; nobody is waited for."""
    pytest.importorskip("matplotlib")
    store(tmp_path, "counts", counts())
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    os.mkfifo(tmp_path / "fifo.trace.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "nothing.json").symlink_to("absent")
    assert cli.main(["report", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    names = ["fifo.json", "folder.json", "loop.json", "nothing.json", "fifo.trace.json"]
    assert [line.split(" is left out: ")[0] for line in lines] == [f"worldswitch: {name}" for name in names]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Its size decides, before a byte of it is in memory."""
    store(tmp_path, "counts", counts())
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(100 << 20)
    found, _ = made(tmp_path)
    assert found.refused == [("large.json", "too large: 100 MiB, where 64 are the most")]


def test_only_bad_files_are_one_line(tmp_path: Path) -> None:
    """It names them, as there is no page that could; also those that only a section stumbles over."""
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BenchError, match=r"no results in .* \(left out: bad.json: "):
        results.load(tmp_path)
    store(tmp_path, "ping", ping(), settings={"seconds": 10**400})
    found = results.load(tmp_path)
    with pytest.raises(BenchError, match=r"ping.json: no page can be made of it"):
        book.check(found)


def test_the_last_of_equal_keys_counts(tmp_path: Path) -> None:
    """As JSON readers have it: no error."""
    text = json.dumps({"samples": ping(), "settings": {}, "machine": MACHINE})
    (tmp_path / "twice.json").write_text('{"bench": 7, "bench": "ping", ' + text[1:])
    found, page = made(tmp_path)
    assert not found.refused
    assert "Round trips in ms" in page


def test_names_of_files_that_are_no_text_stand_on_the_page(tmp_path: Path) -> None:
    """Their bytes as escapes; the page is UTF-8."""
    store(tmp_path, "counts", counts(), os.fsdecode(b"caf\xe9.json"))
    assert "caf\\udce9.json" in made(tmp_path)[1]


def test_a_drawing_that_fails_is_named(tmp_path: Path) -> None:
    """The page says so in its place, its files are not written, and the others are."""
    store(tmp_path, "counts", counts())
    store(tmp_path, "ping", ping())

    def some(chart: Chart) -> Drawing:
        if chart.name.startswith("ping"):
            raise ValueError("no <reason>")
        return no_drawing(chart)

    found = results.load(tmp_path)
    written = book.write(found, tmp_path / "page.html", some)
    assert found.undrawn == [("ping-1-fast", "no <reason>")]
    assert "Not drawn: no &lt;reason&gt;." in (tmp_path / "page.html").read_text()
    assert {path.name for path in written} == {"page.html", "page-counts-1-linux22.svg", "page-counts-1-linux22.png"}


def test_texts_that_make_one_name_have_two_drawings(tmp_path: Path) -> None:
    """Links `1/g` and `1 g` are two charts with names of their own."""
    samples = [*throughput("1/g", native=1), *throughput("1 g", native=2)]
    store(tmp_path, "throughput", samples)
    made(tmp_path)
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "page-throughput-1-1-g-paper.svg",
        "page-throughput-1-1-g-paper-2.svg",
    }


def test_of_many_results_the_newest_are_drawn(tmp_path: Path) -> None:
    """300 files of two experiments: a table for each, charts for three of each; and each profile counts by itself."""
    for number in range(150):
        written = f"2026-11-24T{number // 60:02}:{number % 60:02}:00+00:00"
        store(tmp_path, "counts", counts(), f"counts{number}.json", written=written)
        profile = "fast" if number < 5 else "paper"
        store(tmp_path, "throughput", throughput(profile=profile, native=90), f"t{number}.json", written=written)
    found, page = made(tmp_path)
    assert page.count("For each packet through the virtual NIC") == 150
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert drawn == [
        *(f"page-counts-{number}-linux22.svg" for number in (148, 149, 150)),
        *(f"page-throughput-{number}-100mbit-paper.svg" for number in (148, 149, 150)),
        *(f"page-throughput-{number}-100mbit-fast.svg" for number in (3, 4, 5)),
    ]
    assert [result.path.name for result in found.results if result.drawn and result.bench == "counts"] == [
        f"counts{number}.json" for number in (147, 148, 149)
    ]


def test_a_page_goes_to_standard_output_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`report DIR --output -`: HTML with its drawings, no word beside it, no file."""
    pytest.importorskip("matplotlib")
    store(tmp_path, "counts", counts())
    assert cli.main(["report", str(tmp_path), "--output", "-"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("<!DOCTYPE html>")
    assert out.endswith("</html>\n")
    assert "<svg viewBox" in out
    assert err == ""
    assert os.listdir(tmp_path) == ["counts.json"]


def test_strange_names_can_be_drawn() -> None:
    """A $ in a name is a $, not mathematics; and a drawing of thousands of bars is refused."""
    pytest.importorskip("matplotlib")
    from lab.reporting.plots import draw

    names = ["$\\frac{", "a$b$c", "<&>", "%s", "\\", "日本"]
    drawing = draw(Chart("x", "$\\x", "", Bars(names, [Series("$_", [Point(1, 1, 1)] * len(names))], "$^")))
    assert "$\\frac{" in drawing.inline
    assert "$\\x" in drawing.svg.decode()
    assert "$\\x" not in drawing.inline
    with pytest.raises(ValueError, match="more than"):
        draw(Chart("x", "x", "", Bars(["a"] * 5000, [Series("s", [Point(1, 1, 1)] * 5000)], "")))


@cache
def shipped() -> dict[str, Any]:
    """The small results and the trace of docs/report."""
    paths = [path for path in sorted(SHIPPED.glob("*.json")) if path.stat().st_size < SMALL]
    assert len(paths) > 8
    return {path.name: json.loads(path.read_bytes()) for path in paths}


def places(record: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to some values of a record, each list represented by a few entries."""
    found = [at] if at else []
    if isinstance(record, dict):
        for key in record:
            found += places(record[key], (*at, key))
    elif isinstance(record, list):
        for key in {0, len(record) // 2, len(record) - 1} if record else ():
            found += places(record[key], (*at, key))
    return found


def mutate(record: Any, chance: random.Random) -> None:
    """Replaces, removes or repeats a few values, anywhere."""
    for _ in range(chance.randrange(1, 5)):
        *way, last = chance.choice(places(record))
        with contextlib.suppress(LookupError, TypeError):  # an earlier change has taken the place away
            parent = record
            for key in way:
                parent = parent[key]
            change = chance.random()
            if change < 0.2:
                del parent[last]
            elif change < 0.3 and isinstance(parent, list):
                parent += [copy.deepcopy(parent[last])] * chance.randrange(1, 40)
            else:
                parent[last] = chance.choice(STRANGE)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_no_mutation_of_a_shipped_result_ends_the_page(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Two damaged files beside a good one: they are shown or named, and there is a page, in UTF-8."""
    chance = random.Random(seed)
    directory = tmp_path_factory.mktemp("mutated")
    store(directory, "counts", counts(), "good.json")
    for name in chance.sample(sorted(shipped()), 2):
        record = copy.deepcopy(shipped()[name])
        for events in ("samples", "traceEvents"):
            if events in record:
                record[events] = record[events][: 300 if events == "samples" else 3000]
        mutate(record, chance)
        (directory / name).write_text(json.dumps(record))
    found, page = made(directory)
    assert "good.json" in [result.path.name for result in found.results]
    for path in directory.glob("*.json"):
        assert path.name in page
    assert page.endswith("</html>\n")


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(STRANGE), st.sampled_from(["ts", "dur", "name", "pid", "ph", "args"]), st.integers(0, 6))
def test_no_event_of_a_trace_ends_the_page(
    tmp_path_factory: pytest.TempPathFactory, value: Any, key: str, number: int
) -> None:
    """A timeline with a strange event is drawn without it."""
    directory = tmp_path_factory.mktemp("trace")
    store(directory, "idle", idle(native=0.5))
    trace = chrome_trace()
    trace["traceEvents"][3 + number][key] = value
    (directory / "x.trace.json").write_text(json.dumps(trace))
    assert "x.trace.json" in made(directory)[1]


def test_values_of_every_kind_are_read_or_refused(tmp_path: Path) -> None:
    """Each strange value in each place of a sample: no exception but the reason for which the file is left out."""
    for key in (
        "configuration",
        "metric",
        "unit",
        "value",
        "run",
        "profile",
        "pace_ms",
        "written",
        "bench",
        "complete",
        "valid",
        "reason",
        "retries",
        "anything else",
        *FIELDS,
    ):
        for value in STRANGE:
            strange = sample("native", "rtt_ms", 0.1, pace_ms=5.0, **DISTURBED) | {key: value}
            store(tmp_path, "ping", [strange], "strange.json")
            with contextlib.suppress(BenchError):
                made(tmp_path)
