"""How the command line says what is wrong: one line on stderr, whatever the message was."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

__all__ = ["complain", "last_line"]

_UNDECODED: Final = 0xDC00  # the byte n of a name is U+DC00 + n (PEP 383)


def complain(problem: object) -> None:
    """Prints ``problem`` in one line; if nobody reads stderr any more, it says nothing.

    A message may quote what a guest has printed: nothing in it reaches the terminal as a command.
    """
    with contextlib.suppress(OSError):
        print(f"worldswitch: {_printable(' '.join(str(problem).split()))}", file=sys.stderr, flush=True)


def last_line(text: str) -> str:
    """The last line of ``text`` that is not blank, without what cannot be printed; empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return _printable(lines[-1].strip()) if lines else ""


def _printable(line: str) -> str:
    """Without what cannot be printed; a byte of a file name that is no text is shown as what it is."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in line)


def _escaped(letter: str) -> str:
    """A byte that Python could not decode, by its number; nothing for a control character."""
    number = ord(letter) - _UNDECODED
    return f"\\x{number:02x}" if 0x80 <= number <= 0xFF else ""
