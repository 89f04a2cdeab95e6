"""What the processes of a stack say and print, as their keeper may take it: checked, cut to size, limited in number.

guest, vmm and vmapp are less trusted than the supervisor, which is root: a guest that was taken over may send anything
on its control channel, as fast as it can, and print anything to its standard output. What a user is to read of that
passes through here. Four things are limited, each by a figure of this module:

=========== ================== ====================================================================================
what        limit              beyond it
=========== ================== ====================================================================================
a line      ``LONGEST_LINE``   it is cut; what a terminal would take for a command is taken out of it
a burst     ``BURST``          the process is not listened to until its allowance has grown again, so its pipe or
                               socket fills, and it is the process that has to wait
over time   ``PER_SECOND``     the same
one reading ``CHUNK_BYTES``    the rest waits for the next round, in which others, and a request to stop, come first
=========== ================== ====================================================================================
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from lab.complaint import printable
from machine.control import Message

__all__ = ["BURST", "CHUNK_BYTES", "LONGEST_LINE", "PER_SECOND", "Allowance", "Printed", "text_of"]

LONGEST_LINE: Final = 400  # characters
BURST: Final = 200  # lines: a traceback of some depth
PER_SECOND: Final = 2.0  # lines
CHUNK_BYTES: Final = 1 << 16  # a pipe's own size


def text_of(message: Message, key: str) -> str:
    """The text that a less trusted process has put into ``message`` under ``key``: one printable line, maybe empty."""
    value: Any = message.get(key, "")
    return _line(value) if isinstance(value, str) else ""


def _line(text: str) -> str:
    line = printable(" ".join(text[: 4 * LONGEST_LINE].split()))
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


class Allowance:
    """How many lines a process may still have shown: a bucket of ``BURST``, refilled with ``PER_SECOND``.

    ``clock``: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._at = clock()

    def take(self) -> bool:
        """Whether one more line may be shown; if so, it counts."""
        now = self._clock()
        self._left = min(float(BURST), self._left + (now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def spent(self) -> bool:
        """Whether the next line would be too many; a tenth of a bucket must have grown until it is not."""
        grown = self._left + (self._clock() - self._at) * PER_SECOND
        return grown < 1 if self._left >= 1 else grown < BURST / 10


class Printed:
    """What a process has printed: the read end ``fd`` of the pipe that is its standard output and error.

    ``fd`` is this object's from now on, and must be non-blocking. After ``close``, nothing more comes.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = b""  # a line whose end has not come yet
        self.last = ""  # the last line that was not blank
        self.ended = False  # nobody can print there any more

    def fileno(self) -> int:
        """The pipe, for poll(); -1 once it is closed."""
        return self._fd

    def lines(self) -> list[str]:
        """What has come since the last call, at most ``CHUNK_BYTES``, as lines that may be shown."""
        if self._fd < 0 or self.ended:
            return []
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return []
        self.ended = not data
        *whole, begun = (self._begun + data).split(b"\n")
        self._begun = begun[-4 * LONGEST_LINE :]
        if self.ended and self._begun:
            whole.append(self._begun)
        found = [_text(line) for line in whole]
        self.last = next((line.strip() for line in reversed(found) if line.strip()), self.last)
        return found

    def close(self) -> None:
        """Gives the pipe up; harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _text(line: bytes) -> str:
    """One line as it may be shown; the indentation of a traceback stays."""
    text = line[: 4 * LONGEST_LINE].decode(errors="replace")
    indent = len(text) - len(text.lstrip(" "))
    return " " * min(indent, LONGEST_LINE // 10) + _line(text)
