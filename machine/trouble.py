"""What keeps the card from working, in one line of text: the vmm writes it, ``worldswitch status`` shows it.

A guest whose memory the card cannot reach runs on as if nothing were wrong, with a card that is dead. Only the vmm
knows why, and it has nobody to tell but its log; so the line is also in its counter page (``machine.layout``), where
the supervisor reads everything else that a status shows.

The reader trusts nothing: the line is as long as its place, and whatever cannot be printed is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from machine.layout import TROUBLE, TROUBLE_WORDS

__all__ = ["Trouble", "read_trouble"]

_WORD_BYTES: Final = 8
_MOST_BYTES: Final = TROUBLE_WORDS * _WORD_BYTES


class Trouble:
    """The vmm's end. ``page``: its counter page, format "Q"."""

    def __init__(self, page: memoryview) -> None:
        self._page = page
        self._noted = False

    def note(self, line: str) -> bool:
        """There is trouble; of several the first is kept, which as a rule is the cause of the others.

        Whether this one was kept.
        """
        kept = not self._noted
        if kept:
            self._noted = True
            self._store(line.encode(errors="replace")[:_MOST_BYTES])
        return kept

    def clear(self) -> None:
        """Nothing is wrong any more: the client that it was about is gone."""
        if self._noted:
            self._noted = False
            self._store(b"")

    def _store(self, data: bytes) -> None:
        data = data.ljust(_MOST_BYTES, b"\0")
        for index in range(TROUBLE_WORDS):
            start = index * _WORD_BYTES
            self._page[TROUBLE + index] = int.from_bytes(data[start : start + _WORD_BYTES], "little")


def read_trouble(page: Sequence[int] | memoryview) -> str | None:
    """The line in a vmm's counter page (64-bit words), made harmless; None if there is none."""
    data = b"".join(word.to_bytes(_WORD_BYTES, "little") for word in page[TROUBLE : TROUBLE + TROUBLE_WORDS])
    text = data.partition(b"\0")[0].decode(errors="replace")
    return "".join(filter(str.isprintable, text)) or None
