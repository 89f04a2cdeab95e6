"""Ranges of addresses that may overlap, found by where they lie: the tables of DMA windows in the vmm and in vmapp.

A guest behind an IOMMU maps and unmaps pages all the time it runs, some 1,100 of them at once, and a hostile client
maps as many as it may, one over the other. So nothing here looks at every range: they are kept sorted by their first
address, in classes of like size. A range that reaches into some interval begins at most its own size before it, and
within a class that bounds where to look.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Range", "RangeTable"]


class _Ranged(Protocol):
    """Anything that takes up [base, end)."""

    @property
    def base(self) -> int:
        """First address."""

    @property
    def end(self) -> int:
        """One past the last."""


class Range(NamedTuple):
    """Addresses [base, end)."""

    base: int
    end: int

    @property
    def size(self) -> int:
        """How many addresses."""
        return self.end - self.base


_T = TypeVar("_T", bound=_Ranged)
_BASE: Final[Any] = attrgetter("base")


class RangeTable(Generic[_T]):
    """A bag of ranges: the same one may be in it several times. None of them may be empty.

    Adding one, and asking for those in an interval, takes time in proportion to the logarithm of how many there are,
    and to the number of those found; a class in which ranges overlap adds its near misses.
    """

    __slots__ = ("_classes", "_count")

    def __init__(self) -> None:
        self._classes: dict[int, list[_T]] = {}  # bit length of the size -> ranges, sorted by base
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_T]:
        for ranges in self._classes.values():
            yield from ranges

    def add(self, item: _T) -> None:
        """Puts one more into the bag."""
        ranges = self._classes.setdefault((item.end - item.base).bit_length(), [])
        ranges.insert(bisect_right(ranges, item.base, key=_BASE), item)
        self._count += 1

    def within(self, base: int, end: int) -> list[_T]:
        """The ranges that lie wholly in [base, end), in no particular order."""
        found: list[_T] = []
        for ranges in self._classes.values():
            first, last = _between(ranges, base, end)
            found += [item for item in ranges[first:last] if item.end <= end]
        return found

    def take_within(self, base: int, end: int) -> list[_T]:
        """The same, and they are not in the bag any more."""
        found: list[_T] = []
        for size, ranges in list(self._classes.items()):
            first, last = _between(ranges, base, end)
            some = ranges[first:last]
            found += [item for item in some if item.end <= end]
            ranges[first:last] = [item for item in some if item.end > end]
            if not ranges:
                del self._classes[size]
        self._count -= len(found)
        return found

    def touching(self, base: int, end: int) -> list[_T]:
        """The ranges that have an address in common with [base, end), which is not empty, in no particular order."""
        found: list[_T] = []
        for size, ranges in self._classes.items():
            first, last = _between(ranges, base - (1 << size), end)
            found += [item for item in ranges[first:last] if item.end > base]
        return found


def _between(ranges: list[_T], low: int, high: int) -> tuple[int, int]:
    """Where in a sorted list those that begin in [low, high) are: first, and one past the last."""
    return bisect_left(ranges, low, key=_BASE), bisect_left(ranges, high, key=_BASE)
