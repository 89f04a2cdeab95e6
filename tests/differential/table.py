"""The known errors as a table: ``python -m tests.differential.table`` prints the end of docs/differential.md."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Final

from tests.differential.knownerrors import KNOWN_ERRORS
from tests.differential.row import KnownError

__all__ = ["markdown"]

_EFFECTS: Final = {  # hook: what it means for the comparison
    "skips": "left out",
    "withholds": "only ours is given it",
    "gives": "QEMU is given the chip's value",
    "arrives": "QEMU is given the chip's frame",
    "ends": "sequence ends",
    "after": "QEMU is put right",
    "reads": "answer corrected",
    "hidden": "cause supplied",
    "surplus": "cause cleared in QEMU",
    "frames": "frames corrected",
    "word": "descriptor corrected",
    "byte": "bytes corrected",
}


def _effect(row: KnownError) -> str:
    return ", ".join(text for hook, text in _EFFECTS.items() if getattr(row, hook) is not None)


def _line(row: KnownError) -> str:
    return f"| `{row.name}` | {row.qemu} | {row.data_sheet} | {row.checked} | {row.verdict.value} | {_effect(row)} |"


def _summary() -> str:
    counted = Counter(row.verdict.value for row in KNOWN_ERRORS)
    return f"{len(KNOWN_ERRORS)} rows: " + "; ".join(f"{count} of *{text}*" for text, count in counted.items()) + "."


def markdown() -> str:
    """Summary and table, in Markdown."""
    titles = ("name", "QEMU", "data sheet", "checked against", "verdict", "in the comparison")
    head = [_summary(), "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return "\n".join([*head, *map(_line, KNOWN_ERRORS)]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
