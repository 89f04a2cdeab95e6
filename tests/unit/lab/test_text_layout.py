"""Texts and tables against the width of the screen: they fit it, and nothing of a figure is lost."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.textlayout import command_lines, fields, listing, prose, screen_width, table, wrapped

WIDTHS = (60, 80, 120, 200)
WORD = st.text("abcdefgh%/:", min_size=1, max_size=10)
FIGURE = st.integers(0, 10**6).map(lambda n: f"{n / 100} [{n // 200}..{n}]")


def longest(text: str) -> int:
    """Columns of the longest line."""
    return max(map(len, text.splitlines()), default=0)


@pytest.mark.parametrize(
    ("columns", "width"),
    [(None, 80), ("", 80), ("0", 80), ("-3", 80), ("wide", 80), ("9" * 5000, 80), ("200", 200), ("7", 40)],
)
def test_the_width_is_the_terminals_or_80(monkeypatch, columns, width):
    """COLUMNS where it says something sensible; without a terminal 80; never so narrow that nothing can be laid out."""
    monkeypatch.setattr("sys.__stdout__", None)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert screen_width() == width


@settings(deadline=None)
@given(
    st.sampled_from(WIDTHS),
    st.integers(1, 3),
    st.lists(st.lists(WORD, min_size=1, max_size=3).map(" ".join), min_size=4, max_size=14),
    st.lists(FIGURE, min_size=14, max_size=14),
)
def test_a_table_fits_and_keeps_every_figure(width, keys, header, figures):
    """However many columns: no line is wider than the screen, and each cell is there, in one piece."""
    rows = (figures, figures[::-1])
    body = [[f"row {number}", *("k" for _ in range(keys - 1)), *row] for number, row in enumerate(rows)]
    body = [row[: len(header)] for row in body]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = table(header, body, keys=keys)
    assert longest(text) <= max(width, 54)  # three keys of two words and one figure take that much in any layout
    assert all(cell in text for row in body for cell in row[keys:])
    assert text.count("row 0") == text.count(f"row {len(body) - 1}") >= 1


def test_a_table_that_fits_is_one_table(monkeypatch):
    """With room enough: one line a row, the first column to the left, the others to the right; short rows end early."""
    monkeypatch.setenv("COLUMNS", "80")
    assert table(("name", "Mb/s", "idle %"), [("2.0", "51.6"), ("ports", "7", "0.1")]) == (
        "name   Mb/s  idle %\n2.0    51.6\nports     7     0.1"
    )


def test_a_table_that_is_little_too_wide_is_folded(monkeypatch):
    """Headings, then the first column, go over two lines before a table is taken apart; figures go with the label."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = table(("what it is", "far too long"), [("a label of some words that goes on", "1234.5")]).splitlines()
    assert lines == [
        "                                     far",
        "                                     too",
        "what it is                          long",
        "a label of some words that goes   1234.5",
        "  on",
    ]


def test_a_table_taken_apart_repeats_its_keys(monkeypatch):
    """Each part says which rows it is of, by as many columns as that takes."""
    monkeypatch.setenv("COLUMNS", "40")
    text = table(("mode", "way", "first", "second"), [("2.0", "sent", "1" * 20, "2" * 20)], keys=2)
    assert [line.split() for line in text.splitlines()] == [
        ["mode", "way", "first"],
        ["2.0", "sent", "1" * 20],
        [],
        ["mode", "way", "second"],
        ["2.0", "sent", "2" * 20],
    ]


@settings(deadline=None)
@given(st.sampled_from(WIDTHS), st.lists(WORD, max_size=60))
def test_running_text_fits(width, words):
    """Paragraphs, listings, fields: as wide as the screen at most, with every word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = " ".join(words)
        for laid_out in (wrapped(text, "  ", "    "), prose(text), listing([("key", text)])):
            assert longest(laid_out) <= width
            assert laid_out.split()[-len(words) :] == words[-len(words) :] or not words
        lines = fields(words, label="label ")
        assert all(len(line) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == "label" + "".join(words)


def test_a_shell_command_may_be_copied(monkeypatch):
    """Its lines are one command to a shell: continued with a backslash, words quoted and whole."""
    monkeypatch.setenv("COLUMNS", "80")
    words = ["qemu", *(f"--option{n}" for n in range(12)), "it's one word"]
    lines = command_lines(words, "  ")
    assert len(lines) > 1
    assert all(len(line) <= 80 for line in lines)
    script = "each() { printf '%s\\n' \"$@\"; }; each " + "\n".join(lines)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words
