"""Ranges found by where they lie, against a plain list of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from machine.ranges import Range, RangeTable

SPACE = 48
RANGES = st.builds(lambda base, size: Range(base, base + size), st.integers(0, SPACE), st.integers(1, SPACE))
INTERVALS = st.tuples(st.integers(-4, SPACE + 4), st.integers(0, 2 * SPACE)).map(lambda it: (it[0], it[0] + it[1]))


@settings(deadline=None)
@given(st.lists(RANGES, max_size=40), INTERVALS)
def test_within_and_touching(ranges: list[Range], interval: tuple[int, int]) -> None:
    """Whatever overlaps, and however often: those wholly inside, and those that have an address in common."""
    base, end = interval
    table: RangeTable[Range] = RangeTable()
    for each in ranges:
        table.add(each)
    assert len(table) == len(ranges)
    assert sorted(table) == sorted(ranges)
    inside = sorted(r for r in ranges if base <= r.base and r.end <= end)
    assert sorted(table.within(base, end)) == inside
    common = sorted(r for r in ranges if r.base < end and r.end > base)
    assert base == end or sorted(table.touching(base, end)) == common


@settings(deadline=None)
@given(st.lists(RANGES, max_size=40), st.lists(INTERVALS, max_size=5))
def test_taken_ranges_are_gone(ranges: list[Range], intervals: list[tuple[int, int]]) -> None:
    """What is taken was inside, all of it, and is not found again; everything else stays."""
    table: RangeTable[Range] = RangeTable()
    for each in ranges:
        table.add(each)
    left = sorted(ranges)
    for base, end in intervals:
        inside = [r for r in left if base <= r.base and r.end <= end]
        assert sorted(table.take_within(base, end)) == inside
        left = [r for r in left if r not in inside]
        assert (len(table), sorted(table)) == (len(left), left)


def test_the_last_of_all_addresses() -> None:
    """A range that ends with 64 bits, and one over everything."""
    table: RangeTable[Range] = RangeTable()
    last = Range((1 << 64) - 4096, 1 << 64)
    table.add(last)
    table.add(Range(0, 1 << 64))
    assert table.touching((1 << 64) - 1, 1 << 64) == [last, Range(0, 1 << 64)]
    assert table.within(1, 1 << 64) == [last]
    assert [r.size for r in table.take_within(0, 1 << 64)] == [4096, 1 << 64]
