"""How wide the screen is, and text, listings and tables that fit it.

Everything that a person reads goes through here, so that nothing breaks a line in the middle of a figure: not on a
terminal of 80 columns, which is what a pipe and a terminal that does not say are taken for, and not on a narrow one.
A figure is never shortened; a table that is too wide is folded or taken apart.
"""

from __future__ import annotations

import shlex
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Final

__all__ = ["command_lines", "fields", "listing", "prose", "screen_width", "table", "wrapped"]

_GOES_ON: Final = " \\"  # a shell reads on in the next line
_USUAL: Final = 80
_NARROWEST: Final = 40  # below that, lines may be longer than the screen: no layout would help
_GAP: Final = "  "
_SHORTEST_LABEL: Final = 16  # a first column that is folded stays that wide, or reads like a ribbon


def screen_width() -> int:
    """Columns of the terminal (COLUMNS in the environment wins, as everywhere); 80 if standard output is none."""
    return max(_NARROWEST, shutil.get_terminal_size((_USUAL, 24)).columns)


def wrapped(text: str, indent: str = "", hanging: str | None = None) -> str:
    """One paragraph, line by line as wide as the screen; ``hanging``: the indent of further lines, if another."""
    further = indent if hanging is None else hanging
    return textwrap.fill(
        text,
        screen_width(),
        initial_indent=indent,
        subsequent_indent=further,
        break_long_words=False,  # a path or a figure stays whole
        break_on_hyphens=False,
    )


def prose(text: str) -> str:
    """Paragraphs, an empty line between two in ``text``; each begins a line of its own, none is set apart."""
    return "\n".join(wrapped(" ".join(paragraph.split())) for paragraph in text.split("\n\n"))


def listing(entries: Iterable[tuple[str, str]]) -> str:
    """Names and what they mean, as --help lists options."""
    every = list(entries)
    width = max((len(name) for name, _ in every), default=0)
    margin = " " * (width + 4)
    return "\n".join(wrapped(text, f"  {name:{width}}  ", margin) for name, text in every)


def fields(parts: Iterable[str], *, label: str = "", gap: str = "   ") -> list[str]:
    """Short texts side by side after ``label``, in as many lines as they need; none is broken."""
    width, margin = screen_width(), " " * len(label)
    lines: list[str] = []
    line = ""
    for part in parts:
        if line and len(margin) + len(line) + len(gap) + len(part) > width:
            lines.append(line)
            line = part
        else:
            line = f"{line}{gap}{part}" if line else part
    lines.append(line)
    return [f"{margin if at else label}{line}".rstrip() for at, line in enumerate(lines)]


def command_lines(words: Sequence[str], indent: str) -> list[str]:
    """A shell command to copy, in lines that a shell takes for one; no word is broken."""
    room = screen_width() - len(indent) - len(_GOES_ON)
    lines: list[str] = []
    line = ""
    for word in map(shlex.quote, words):
        if line and len(line) + 1 + len(word) > room:
            lines.append(f"{indent}{line}{_GOES_ON}")
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return [*lines, f"{indent}{line}"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, keys: int = 1) -> str:
    """Columns as wide as they need, the first to the left, the others to the right; short rows end early.

    One that is wider than the screen has its headings and its first column folded. If that is not enough, it is taken
    apart into several, one below the other; each begins with the first ``keys`` columns, which say what a row is of.
    """
    columns = [list(column) for column in zip_longest(header, *rows, fillvalue="")]
    screen = screen_width()
    every = range(len(columns))
    natural, folded = [max(map(len, column)) for column in columns], _folded(columns)
    if _total(natural) <= screen:
        return _drawn(columns, every, natural)
    if _total(folded) <= screen or _shorten_first(columns[0], folded, screen):
        return _drawn(columns, every, folded)
    return "\n\n".join(_parts(columns, keys, screen))


def _folded(columns: Sequence[Sequence[str]]) -> list[int]:
    """Widths with headings that may go over several lines, word by word."""
    return [max(_longest_word(cells[0]), *map(len, cells[1:]), 0) for cells in columns]


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _shorten_first(cells: Sequence[str], widths: list[int], screen: int) -> bool:
    """Takes from the first column, whose cells are texts, what the others lack; False, and nothing taken, if too much.

    Only an excess of a few columns is worth a label in two lines.
    """
    wanted = widths[0] - (_total(widths) - screen)
    least = max(_SHORTEST_LABEL, widths[0] // 2, *(_longest_word(cell) + len(_margin(cell)) for cell in cells))
    if wanted < least:
        return False
    widths[0] = wanted
    return True


def _parts(columns: Sequence[Sequence[str]], keys: int, screen: int) -> Iterator[str]:
    """Several tables of the same rows: as many columns in each as fit, at least one besides the keys."""
    widths = _folded(columns)
    chosen = list(range(keys))
    for at in range(keys, len(columns)):
        if len(chosen) > keys and _total([widths[i] for i in (*chosen, at)]) > screen:
            yield _part(columns, chosen, widths, screen)
            chosen = list(range(keys))
        chosen.append(at)
    yield _part(columns, chosen, widths, screen)


def _part(columns: Sequence[Sequence[str]], chosen: Sequence[int], widths: Sequence[int], screen: int) -> str:
    kept = [max(map(len, columns[at])) for at in chosen]
    if _total(kept) > screen:
        kept = [widths[at] for at in chosen]
    if _total(kept) > screen:
        _shorten_first(columns[0], kept, screen)
    return _drawn(columns, chosen, kept)


def _drawn(columns: Sequence[Sequence[str]], chosen: Sequence[int], widths: Sequence[int]) -> str:
    lines: list[str] = []
    for number in range(len(columns[0])):
        cells = [
            _lines(columns[at][number], width, label=bool(number)) for at, width in zip(chosen, widths, strict=True)
        ]
        height = max(map(len, cells))
        for level in range(height):
            # A heading stands on its column; a label that goes on does so below its row's figures.
            texts = [_level(cell, level - (height - len(cell) if not number else 0)) for cell in cells]
            pairs = enumerate(zip(texts, widths, strict=True))
            lines.append(_GAP.join(t.rjust(width) if at else t.ljust(width) for at, (t, width) in pairs).rstrip())
    return "\n".join(lines)


def _lines(text: str, width: int, *, label: bool) -> list[str]:
    """A cell within its column, folded only if it does not fit. A label goes on farther to the right, a heading not."""
    if len(text) <= width:
        return [text]
    margin = _margin(text) if label else ""
    return textwrap.wrap(text, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)


def _margin(label: str) -> str:
    """Where a label's further lines begin."""
    return " " * (len(label) - len(label.lstrip()) + len(_GAP))


def _level(cell: Sequence[str], level: int) -> str:
    return cell[level] if 0 <= level < len(cell) else ""
