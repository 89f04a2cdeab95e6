"""How the command line says what is wrong: one line on stderr, whatever the message was."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Mapping
from typing import Final

__all__ = ["complain", "lack_of", "last_line", "printable", "printable_text"]

_LONGEST: Final = 2000  # characters of a line: whoever gives an argument of a megabyte knows it already
_HINTS: Final[Mapping[int, str]] = {
    errno.EMFILE: " (see `ulimit -n`)",
    errno.EAGAIN: " (see `ulimit -u`)",  # as fork() has it
    errno.ENOMEM: " (see `ulimit -v`)",
    errno.EFBIG: " (see `ulimit -f`)",
}
_NO_THREAD: Final = "can't start new thread"  # CPython's words, Modules/_threadmodule.c

_UNDECODED: Final = 0xDC00  # the byte n of a name is U+DC00 + n (PEP 383)


def complain(problem: object) -> None:
    """Prints ``problem`` in one line; if nobody reads stderr any more, it says nothing.

    A message may quote what a guest has printed: nothing in it reaches the terminal as a command.
    """
    line = printable(" ".join(str(problem).split()))
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
        print(f"worldswitch: {line}", file=sys.stderr, flush=True)


def lack_of(error: BaseException) -> str | None:
    """One line on what the machine, or a limit of this process, did not grant; None for what is a defect of ours.

    The kernel's refusals (files, memory, processes, space) come as OSError wherever they happen to hit: what is not
    expected where it happens ends here, so that a limit never is a traceback.
    """
    if isinstance(error, MemoryError):
        return "out of memory: see `ulimit -v`, and what else runs"
    if isinstance(error, OSError) and error.errno is not None:
        about = f": {error.filename}" if error.filename is not None else ""
        return f"the machine refuses: {error.strerror}{about}{_HINTS.get(error.errno, '')}"
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return "the machine refuses: no new thread (see `ulimit -u` and `ulimit -v`)"
    return None


def last_line(text: str) -> str:
    """The last line of ``text`` that is not blank, without what cannot be printed; empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[-1].strip()) if lines else ""


def printable(line: str) -> str:
    """``line`` without what a terminal acts upon: C0 and C1 controls, escapes, what changes the direction of writing.

    Whatever a guest or a client has said goes through here before it reaches a terminal or a log. A byte of a file name
    that is no text is shown as what it is.
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in line)


def printable_text(text: str) -> str:
    """``printable`` for several lines: line feeds and tabs stay."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _escaped(letter: str) -> str:
    """A byte that Python could not decode, by its number; nothing for a control character."""
    number = ord(letter) - _UNDECODED
    return f"\\x{number:02x}" if 0x80 <= number <= 0xFF else ""
