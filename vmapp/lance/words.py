"""A descriptor's words in guest memory, in one piece or in several."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["SplitWords", "Words"]

_BYTES: Final = 4


class Words(Protocol):
    """Little-endian words of 32 bits: a memoryview of format "I", or what looks like one."""

    def __getitem__(self, index: int, /) -> int:
        """The word at an index."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Stores a word, and nothing of its neighbours."""


class SplitWords:
    """Words that begin in one window and end in another: a descriptor across the edge of a page of an IOMMU.

    No driver of ours puts one there, for descriptors are aligned to their size; the chip does not insist on that. A
    word across the edge is read and written in two parts, as on a bus.
    """

    __slots__ = ("_pieces",)

    def __init__(self, pieces: list[memoryview]) -> None:
        """``pieces``: writable bytes, in order; their sum is a multiple of four."""
        self._pieces = pieces

    def __getitem__(self, index: int, /) -> int:
        return int.from_bytes(b"".join(self._parts(index)), "little")

    def __setitem__(self, index: int, value: int, /) -> None:
        data = value.to_bytes(_BYTES, "little")
        start = 0
        for part in self._parts(index):
            part[:] = data[start : start + len(part)]
            start += len(part)

    def _parts(self, index: int) -> list[memoryview]:
        """The bytes of one word, piece by piece."""
        low = index * _BYTES
        high = low + _BYTES
        parts = []
        for piece in self._pieces:
            size = len(piece)
            if low < size and high > 0:
                parts.append(piece[max(low, 0) : high])
            low, high = low - size, high - size
        return parts
