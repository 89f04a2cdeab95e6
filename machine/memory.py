"""Guest physical memory as the devices see it: windows of shared bytes, every access checked.

The guest hands out physical addresses (descriptor rings, buffers, init block). None of them is trusted: a
device asks for a *window* and gets exactly those bytes, or ``None`` when any of them lies outside RAM.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["ADDRESS_LIMIT", "GuestMemory"]

ADDRESS_LIMIT: Final = 1 << 32  # the Lance is a 32-bit bus master: what lies above is out of its reach
_SPAN: Final = 1 << 65  # more than all addresses


class _Window(NamedTuple):
    """Guest addresses [base, base + size); ``backing``: their bytes, None where nothing can be reached."""

    base: int
    size: int
    backing: memoryview | None


class _Segment(NamedTuple):
    """Bytes [start, end) of one window that no newer window hides."""

    start: int
    end: int
    bytes: memoryview


_NOWHERE: Final = _Segment(0, 0, memoryview(b""))


class GuestMemory:
    """RAM that starts at guest physical address 0, or several windows of it (a foreign guest's DMA map).

    A window may be read-only, as a ROM is: its bytes can be read, and a write to it fails as one outside RAM does.
    ``generation`` grows whenever the map changes; whoever caches a window compares it before use, and has to let go
    of windows that are gone, lest their memory stay mapped.
    """

    __slots__ = ("_last", "_ram", "_segments", "_size", "_starts", "_windows", "generation")

    def __init__(self, ram: memoryview) -> None:
        """``ram``: writable bytes (format "B") that back guest addresses [0, len(ram)); maybe none."""
        self._ram = ram
        self._size = len(ram)
        self._windows: list[_Window] = []  # oldest first
        self._segments: list[_Segment] = []
        self._starts: list[int] = []
        self._last = _NOWHERE
        self.generation = 0

    @property
    def windows(self) -> int:
        """How many windows there are, RAM at address 0 not counted."""
        return len(self._windows)

    def window(self, address: int, length: int) -> memoryview | None:
        """The bytes [address, address + length), writable and not copied; None if any is outside writable RAM.

        Any integers are allowed: negative, zero-length and beyond-32-bit requests all answer None.
        """
        end = address + length
        if 0 <= address < end <= self._size:
            return self._ram[address:end]
        found = self._elsewhere(address, end)
        return None if found is None or found.readonly else found

    def source(self, address: int, length: int) -> memoryview | None:
        """As ``window``, of bytes that are only to be read: in read-only windows, too."""
        end = address + length
        if 0 <= address < end <= self._size:
            return self._ram[address:end]
        return self._elsewhere(address, end)

    def _elsewhere(self, address: int, end: int) -> memoryview | None:
        """The bytes of the segment that holds all of them; a run of bytes over two segments is not contiguous."""
        start, stop, backing = self._last  # most accesses are to where the last one was
        if start <= address < end <= stop:
            return backing[address - start : end - start]
        if address >= end:
            return None
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        start, stop, backing = segment = self._segments[place]
        if end > stop:
            return None
        self._last = segment
        return backing[address - start : end - start]

    def map(self, base: int, backing: memoryview | None, size: int | None = None) -> None:
        """Adds a window at guest address ``base``; it hides what it covers of older ones, until it is unmapped.

        ``backing``: its bytes, and their number its size. None: ``size`` addresses where nothing can be reached.
        """
        taken = len(backing) if backing is not None else size or 0
        if taken > 0:
            self._windows.append(_Window(base, taken, backing))
            self._changed()

    def unmap(self, base: int, size: int) -> int:
        """Removes every window that lies wholly within [base, base + size); the bytes of address space they took."""
        gone = [w for w in self._windows if base <= w.base and w.base + w.size <= base + size]
        if gone:
            self._windows = [w for w in self._windows if not (base <= w.base and w.base + w.size <= base + size)]
            self._changed()
        return sum(w.size for w in gone)

    def clear(self) -> int:
        """Removes every window; the bytes of address space they took."""
        return self.unmap(min((w.base for w in self._windows), default=0), _SPAN)

    def _changed(self) -> None:
        self._last = _NOWHERE
        self._segments = list(_visible(self._windows))
        self._starts = [segment.start for segment in self._segments]
        self.generation += 1


def _visible(windows: list[_Window]) -> Iterable[_Segment]:
    """What can be seen of the windows, in order of address: between two edges, the newest window that is there."""
    edges = sorted({edge for w in windows for edge in (w.base, w.base + w.size)})
    begins, ends = _numbers(windows, 0), _numbers(windows, 1)
    present: set[int] = set()
    start, shown = 0, -1
    for edge in edges:
        present.difference_update(ends.get(edge, ()))
        present.update(begins.get(edge, ()))
        newest = max(present, default=-1)
        if newest != shown:
            yield from _segment(windows, shown, start, edge)
            start, shown = edge, newest


def _numbers(windows: list[_Window], edge: int) -> dict[int, list[int]]:
    """Address -> numbers of the windows that begin (``edge`` 0) or end (1) there."""
    found: dict[int, list[int]] = {}
    for number, (base, size, _) in enumerate(windows):
        found.setdefault(base + edge * size, []).append(number)
    return found


def _segment(windows: list[_Window], number: int, start: int, end: int) -> Iterable[_Segment]:
    end = min(end, ADDRESS_LIMIT)
    if number >= 0 and start < end and (backing := windows[number].backing) is not None:
        base = windows[number].base
        yield _Segment(start, end, backing[start - base : end - base])
