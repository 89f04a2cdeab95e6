"""A picture that changes: redrawn in place on a terminal, one block after another anywhere else."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

__all__ = ["Screen"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the alternate screen, no cursor (xterm control sequences)
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_TO_LINE_END: Final = "\x1b[K"
_TO_SCREEN_END: Final = "\x1b[J"
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[m"
_QUIT_KEYS: Final = b"qQ\x03\x04"


class Screen:
    """For one ``with`` block. ``stops``: descriptors that end ``wait`` when readable; so does the key q.

    After the block the last picture stays on the terminal. NO_COLOR (no-color.org) leaves emphasis out.
    """

    def __init__(self, stops: Sequence[int], *, live: bool = True) -> None:
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._redraws = live and terminal
        self._emphasis = terminal and not os.environ.get("NO_COLOR")
        self._stops = stops
        self._keys = sys.stdin.fileno() if self._redraws and sys.stdin is not None and sys.stdin.isatty() else None
        self._saved: list[Any] = []
        self._last: Sequence[str] = ()
        self._shown = 0

    def __enter__(self) -> Screen:
        if self._keys is not None:
            self._saved = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        if self._redraws:
            self._write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redraws:
            self._write(_LEAVE + "".join(f"{line}\n" for line in self._last))
        if self._keys is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)

    def bold(self, text: str) -> str:
        """The text as a heading, where that can be seen."""
        return f"{_BOLD}{text}{_PLAIN}" if self._emphasis else text

    def show(self, lines: Sequence[str]) -> None:
        """Replaces the picture on a terminal; elsewhere adds a block, after an empty line."""
        self._last = lines
        if self._redraws:
            columns, rows = shutil.get_terminal_size()
            fitting = [_cut(line, columns) + _TO_LINE_END for line in lines[:rows]]
            self._write(_HOME + "\n".join(fitting) + _TO_SCREEN_END)
        else:
            self._write("\n" * (self._shown > 0) + "".join(f"{line}\n" for line in lines))
        self._shown += 1

    def wait(self, seconds: float) -> bool:
        """Sleeps; True at once if there is a reason to end."""
        poll = select.poll()
        for fd in self._stops if self._keys is None else (*self._stops, self._keys):
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                if fd != self._keys or self._wants_to_quit(fd):
                    return True
        return False

    def _wants_to_quit(self, keys: int) -> bool:
        """A terminal that has hung up reads as nothing, or not at all."""
        try:
            pressed = os.read(keys, 64)
        except OSError:
            return True
        return not pressed or any(key in _QUIT_KEYS for key in pressed)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _cut(line: str, columns: int) -> str:
    """The part of a line that fits; emphasis takes no room, and ends with the line."""
    if not line.startswith(_BOLD):
        return line[:columns]
    return f"{_BOLD}{line[len(_BOLD) : -len(_PLAIN)][:columns]}{_PLAIN}"
