"""What can be seen of windows that lie over one another: at each address, the newest one that is there."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Segment", "Window", "visible"]


class Window(NamedTuple):
    """Guest addresses [base, end). Higher ``number``: newer.

    ``backing``: the bytes of the file that they are part of, None where nothing can be reached. The byte for address
    a is ``backing[a + shift]``.
    """

    base: int
    end: int
    number: int
    backing: memoryview | None
    shift: int


class Segment(NamedTuple):
    """Addresses [start, end), each of which is the byte ``bytes[address + shift]`` to whoever asks."""

    start: int
    end: int
    bytes: memoryview
    shift: int

    def continues_in(self, other: Segment) -> bool:
        """``other`` is the next run of addresses, and of bytes: together they are one segment."""
        return self.end == other.start and self.bytes is other.bytes and self.shift == other.shift


def visible(windows: list[Window], low: int, high: int) -> Iterator[Segment]:
    """What can be seen of the windows between two addresses, in order of address.

    One sweep over their edges, with a heap of those that are open, newest first: n log n for n windows, however many
    lie over one another.
    """
    edges = sorted({low, high, *(edge for w in windows for edge in (w.base, w.end) if low < edge < high)})
    coming = sorted(windows, key=lambda w: w.base, reverse=True)
    open_windows: list[tuple[int, Window]] = []
    for start, end in pairwise(edges):
        while coming and coming[-1].base <= start:
            window = coming.pop()
            heappush(open_windows, (-window.number, window))
        while open_windows and open_windows[0][1].end <= start:
            heappop(open_windows)
        if open_windows:
            window = open_windows[0][1]
            if window.backing is not None:
                yield Segment(start, end, window.backing, window.shift)
