"""Guest physical memory as the devices see it: windows of shared bytes, every access checked.

The guest hands out physical addresses (descriptor rings, buffers, init block). None of them is trusted: a device asks
for a run of bytes and gets exactly those, or ``None`` when any of them cannot be reached. So an access of n bytes
succeeds if and only if each byte lies in a window that allows it, wherever the windows begin and end. One that fails
moves nothing: a real bus master would have moved the bytes before the hole, but what a failed access has left in a
buffer no driver may look at, and all or nothing is easier to rely on.

Bytes that lie together in memory come as one view. That is what the hot paths ask for, and nearly all accesses: RAM of
the built-in guest is one window, so is most of a guest's without IOMMU, and pages of an IOMMU that continue each other
in the same file are joined. All else comes in pieces.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from machine.ranges import RangeTable
from machine.visible import Segment, Window, visible

__all__ = ["ADDRESS_LIMIT", "GuestMemory"]

ADDRESS_LIMIT: Final = 1 << 32
"""The Lance is a 32-bit bus master: what lies above is out of its reach, and no access wraps around to address 0."""

_SPAN: Final = 1 << 65  # more than all addresses


_NOWHERE: Final = Segment(0, 0, memoryview(b""), 0)


class GuestMemory:
    """RAM that starts at guest physical address 0, or several windows of it (a foreign guest's DMA map), or both.

    A window may be read-only, as a ROM is: its bytes can be read, and a write to it fails as one outside RAM does.
    ``generation`` grows whenever the map changes; whoever caches a window compares it before use, and has to let go
    of windows that are gone, lest their memory stay mapped.
    """

    __slots__ = ("_last", "_number", "_ram", "_segments", "_size", "_starts", "_table", "generation")

    def __init__(self, ram: memoryview) -> None:
        """``ram``: writable bytes (format "B") that back guest addresses [0, len(ram)); maybe none."""
        self._ram = ram
        self._size = len(ram)
        self._table: RangeTable[Window] = RangeTable()
        self._number = 0  # of the newest window
        self._segments: list[Segment] = []  # what is visible of the windows, sorted, none over another
        self._starts: list[int] = []  # of the segments, for bisection
        self._last = _NOWHERE
        self.generation = 0

    @property
    def windows(self) -> int:
        """How many windows there are, RAM at address 0 not counted."""
        return len(self._table)

    # -- accesses --------------------------------------------------------------------------------------------

    def window(self, address: int, length: int) -> memoryview | None:
        """The bytes [address, address + length), writable and not copied; None if they are not one piece of memory.

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

    def targets(self, address: int, length: int) -> list[memoryview] | None:
        """The bytes [address, address + length), writable, piece by piece in order; None if any is out of reach."""
        return self._pieces(address, length, writable=True)

    def sources(self, address: int, length: int) -> list[memoryview] | None:
        """As ``targets``, of bytes that are only to be read."""
        return self._pieces(address, length, writable=False)

    def read(self, address: int, length: int) -> bytes | None:
        """A copy of the bytes, or None if any is out of reach."""
        pieces = self.sources(address, length)
        return None if pieces is None else b"".join(pieces)

    def write(self, address: int, data: memoryview | bytes) -> bool:
        """Stores all of ``data``, or nothing and answers False."""
        pieces = self.targets(address, len(data))
        if pieces is None:
            return False
        start = 0
        for piece in pieces:
            end = start + len(piece)
            piece[:] = data[start:end]
            start = end
        return True

    def _pieces(self, address: int, length: int, *, writable: bool) -> list[memoryview] | None:
        end = address + length
        if not 0 <= address < end <= ADDRESS_LIMIT:
            return None
        pieces = []
        while address < end:
            if address < self._size:
                piece = self._ram[address : min(end, self._size)]
            else:
                segment = self._segment(address)
                if segment is None or (writable and segment.bytes.readonly):
                    return None
                stop = min(end, segment.end)
                piece = segment.bytes[address + segment.shift : stop + segment.shift]
            pieces.append(piece)
            address += len(piece)
        return pieces

    def _elsewhere(self, address: int, end: int) -> memoryview | None:
        """The bytes, if one segment has them all."""
        start, stop, backing, shift = self._last  # most accesses are to where the last one was
        if start <= address < end <= stop:
            return backing[address + shift : end + shift]
        if address >= end:
            return None
        segment = self._segment(address)
        if segment is None or end > segment.end:
            return None
        self._last = segment
        return segment.bytes[address + segment.shift : end + segment.shift]

    def _segment(self, address: int) -> Segment | None:
        """The segment that an address lies in."""
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        segment = self._segments[place]
        return segment if address < segment.end else None

    # -- the map ---------------------------------------------------------------------------------------------

    def map(self, base: int, backing: memoryview | None, size: int | None = None, offset: int = 0) -> None:
        """Adds a window at guest address ``base``; it hides what it covers of older ones, until it is unmapped.

        ``backing``: a whole file's bytes, of which the window's are ``size`` from ``offset`` on (all, if it is None).
        Windows that are given the same view are joined where they continue each other. None: ``size`` addresses
        where nothing can be reached.
        """
        if backing is not None:
            size = len(backing) - offset if size is None else min(size, len(backing) - offset)
        if not size or size < 0:
            return
        self._number += 1
        window = Window(base, base + size, self._number, backing, offset - base)
        self._table.add(window)
        self._show(base, base + size, [window])

    def unmap(self, base: int, size: int) -> int:
        """Removes every window that lies wholly within [base, base + size); the bytes of address space they took."""
        gone = self._table.take_within(base, base + size)
        if not gone:
            return 0
        low, high = min(w.base for w in gone), max(w.end for w in gone)
        self._show(low, high, self._table.touching(low, high))
        return sum(w.end - w.base for w in gone)

    def clear(self) -> int:
        """Removes every window; the bytes of address space they took."""
        return self.unmap(min((w.base for w in self._table), default=0), _SPAN)

    def _show(self, low: int, high: int, windows: list[Window]) -> None:
        """What is visible between two addresses is these windows now; nothing else has changed."""
        low, high = max(low, self._size), min(high, ADDRESS_LIMIT)  # RAM at address 0 hides them all
        self._last = _NOWHERE
        self.generation += 1
        if low >= high:
            return
        first = max(0, bisect_right(self._starts, low) - 1)
        if first < len(self._segments) and self._segments[first].end < low:
            first += 1
        last = bisect_left(self._starts, high)
        if last < len(self._starts) and self._starts[last] == high:
            last += 1  # it may continue what is new
        old = self._segments[first:last]
        segments: list[Segment] = []
        for segment in (*_before(old, low), *visible(windows, low, high), *_after(old, high)):
            if segments and segments[-1].continues_in(segment):
                segments[-1] = segments[-1]._replace(end=segment.end)
            else:
                segments.append(segment)
        self._segments[first:last] = segments
        self._starts[first:last] = [segment.start for segment in segments]


def _before(segments: list[Segment], limit: int) -> list[Segment]:
    """What of the segments lies below an address."""
    return [s._replace(end=min(s.end, limit)) for s in segments if s.start < limit]


def _after(segments: list[Segment], limit: int) -> list[Segment]:
    """What of the segments lies from an address on."""
    return [s._replace(start=max(s.start, limit)) for s in segments if s.end > limit]
