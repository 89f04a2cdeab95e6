"""Shared pages in tests: one that is only memory of this process, and the view of one that must not be mapped."""

from __future__ import annotations

__all__ = ["Copied"]


class Copied:
    """What ``machine.shm.PageReader`` is, for words (format "Q") of this process's own."""

    def __init__(self, words: memoryview) -> None:
        self._bytes = words.cast("B")
        self.size = words.nbytes

    def read(self, offset: int, length: int) -> bytes:
        """A copy of ``length`` bytes from ``offset`` on."""
        return bytes(self._bytes[offset : offset + length])
