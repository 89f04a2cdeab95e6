"""How the command line says what is wrong: one line on stderr, whatever the message was."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["complain", "last_line", "printable", "printable_text"]


def complain(problem: object) -> None:
    """Prints ``problem`` in one line; if nobody reads stderr any more, it says nothing.

    A message may quote what a guest has printed: nothing in it reaches the terminal as a command.
    """
    with contextlib.suppress(OSError):
        print(f"worldswitch: {printable(' '.join(str(problem).split()))}", file=sys.stderr, flush=True)


def last_line(text: str) -> str:
    """The last line of ``text`` that is not blank, without what cannot be printed; empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[-1].strip()) if lines else ""


def printable(line: str) -> str:
    """``line`` without what a terminal acts upon: C0 and C1 controls, escapes, what changes the direction of writing.

    Whatever a guest or a client has said goes through here before it reaches a terminal or a log.
    """
    return "".join(filter(str.isprintable, line))


def printable_text(text: str) -> str:
    """``printable`` for several lines: line feeds and tabs stay."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
