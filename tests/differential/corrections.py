"""The table of known errors at work: its hooks, row by row, and which rows have made a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from machine.lance import bits
from tests.differential.context import Context
from tests.differential.row import Byte, KnownError, Word

__all__ = ["Corrections", "Difference", "SequenceEnd"]

_T = TypeVar("_T")


class Difference(AssertionError):  # noqa: N818 - a finding
    """The two devices disagree, and no known error says why."""


class SequenceEnd(Exception):  # noqa: N818 - no error: the sequence is over
    """A known error has made the rest of the sequence incomparable. ``str``: its name."""


class Corrections:
    """The rows over one context. ``used``: names of those that have changed or ended anything."""

    def __init__(self, rows: Sequence[KnownError], context: Context) -> None:
        self.rows, self.context = rows, context
        self.used: set[str] = set()

    def skips(self) -> bool:
        """Neither machine is to be given the step."""
        return self._any([row for row in self.rows if row.skips is not None and row.skips(self.context)])

    def withholds(self) -> bool:
        """Only ours is to be given the step."""
        return self._any([row for row in self.rows if row.withholds is not None and row.withholds(self.context)])

    def check_end(self) -> None:
        """Raises SequenceEnd if a row says so."""
        ending = [row for row in self.rows if row.ends is not None and row.ends(self.context)]
        if self._any(ending):
            raise SequenceEnd(ending[0].name)

    def given(self, value: int) -> int:
        """What QEMU is to be given instead of a written value."""
        for row in self.rows:
            if row.gives is not None:
                value = self._changed(row, value, row.gives(self.context, value))
        return value

    def arriving(self, frame: bytes) -> bytes:
        """What QEMU is to be given instead of a frame from the wire."""
        for row in self.rows:
            if row.arrives is not None:
                frame = self._changed(row, frame, row.arrives(self.context, frame))
        return frame

    def read(self, value: int) -> int:
        """What the chip would have answered where QEMU answers ``value``."""
        for row in self.rows:
            if row.reads is not None:
                value = self._changed(row, value, row.reads(self.context, value))
        return value

    def afterwards(self) -> list[str]:
        """Lines for QEMU that follow an access."""
        lines: list[str] = []
        for row in self.rows:
            if row.after is not None:
                more = row.after(self.context)
                self._any([row] if more else [])
                lines += more
        return lines

    def hidden(self) -> int:
        """CSR0 causes that ours may have without QEMU, and INTR for a cause outside CSR0."""
        found = 0
        for row in self.rows:
            if row.hidden is not None and (more := row.hidden(self.context)):
                self.used.add(row.name)
                found |= more
        c = self.context
        c.hidden = (c.hidden | found) & c.csr(0) & bits.CSR0_CAUSES
        return c.hidden | found & bits.CSR0_INTR

    def surplus(self, extra: int) -> int:
        """Those of the ``extra`` CSR0 causes that QEMU is known to raise without reason."""
        known = 0
        for row in self.rows:
            if row.surplus is not None and (more := row.surplus(self.context) & extra):
                self.used.add(row.name)
                known |= more
        return known

    def frames(self, frames: list[bytes]) -> list[bytes]:
        """What the chip would have sent where QEMU sends these."""
        for row in self.rows:
            if row.frames is not None:
                frames = self._changed(row, frames, row.frames(self.context, frames))
        return frames

    def word(self, word: Word) -> int:
        """What the chip would have stored in a descriptor's word."""
        value = word.theirs
        for row in self.rows:
            if row.word is not None:
                current = Word(word.ring, word.entry, word.part, word.ours, value, word.before)
                value = self._changed(row, value, row.word(self.context, current))
        return value

    def byte(self, byte: Byte) -> int:
        """What the chip would have stored in a byte elsewhere."""
        value = byte.theirs
        for row in self.rows:
            if row.byte is not None:
                current = Byte(byte.address, byte.ours, value, byte.before)
                value = self._changed(row, value, row.byte(self.context, current))
        return value

    def _any(self, rows: list[KnownError]) -> bool:
        self.used.update(row.name for row in rows[:1])
        return bool(rows)

    def _changed(self, row: KnownError, before: _T, after: _T) -> _T:
        if before != after:
            self.used.add(row.name)
        return after
