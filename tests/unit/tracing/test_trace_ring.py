"""The trace buffers: what is written is read, in order, or counted as lost; never anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import LayoutError
from machine.trace import (
    CAPACITY,
    MOST_RECORDS,
    TRACE_BYTES,
    Note,
    Record,
    TraceReader,
    make_note,
    trap_argument,
)
from tests.kit.pages import Copied

FOREVER = 1 << 62
WORD = st.integers(0, (1 << 64) - 1)
BUFFER = memoryview(bytearray(TRACE_BYTES)).cast("Q")  # zeroed before each use


def buffer() -> memoryview:
    """A trace buffer that nobody has written to."""
    BUFFER[:8] = memoryview(bytearray(64)).cast("Q")
    return BUFFER


def never() -> None:
    """Must not be called."""
    raise AssertionError("the lease is not over")


def writer(words: memoryview) -> Note:
    """What a process writes with."""
    return make_note(words, [FOREVER], never)


def fill(note: Note, first: int, count: int) -> None:
    """Writes records with the arguments ``first`` and so on."""
    for number in range(first, first + count):
        note(number, number + 1, 7, number)


@given(st.lists(st.tuples(st.integers(0, 1 << 60), st.integers(0, 1 << 40), st.integers(1, 255), WORD), max_size=100))
def test_everything_written_is_read_back(events: list[tuple[int, int, int, int]]) -> None:
    """Records come out as they went in, in the order of writing, whatever their values."""
    words = buffer()
    reader, note = TraceReader(Copied(words)), writer(words)
    for begin, duration, code, argument in events:
        note(begin, begin + duration, code, argument)
    reader.drain(last=True)
    assert list(reader.records()) == [Record(b, b + d, code, argument) for b, d, code, argument in events]
    assert reader.lost == 0


@given(st.lists(st.integers(0, 60), max_size=12))
def test_drains_may_come_at_any_time(bursts: list[int]) -> None:
    """However writing and draining alternate, each record is read exactly once."""
    words = buffer()
    reader, note = TraceReader(Copied(words)), writer(words)
    total = 0
    for burst in bursts:
        fill(note, total, burst)
        total += burst
        reader.drain()
    reader.drain(last=True)
    assert [record.argument for record in reader.records()] == list(range(total))
    assert reader.lost == 0


def test_a_full_turn_loses_the_oldest_and_says_so() -> None:
    """A writer that laps the reader overwrites the oldest records; they are counted, and the rest is whole."""
    words = buffer()
    reader, note = TraceReader(Copied(words)), writer(words)
    total = CAPACITY + 1000
    fill(note, 0, total)
    reader.drain(last=True)
    read = [record.argument for record in reader.records()]
    assert read == list(range(total - len(read), total))
    assert len(read) + reader.lost == total
    assert CAPACITY - 100 < len(read) <= CAPACITY


def test_a_signal_handler_may_trace_within_a_record() -> None:
    """A record written between two stores of another gets a place of its own; both are read."""
    words = buffer()
    reader, note = TraceReader(Copied(words)), writer(words)

    class Interrupting(int):
        def __and__(self, mask: int) -> int:
            note(5, 6, 2, 2)
            return 1 & mask

    note(1, 2, 1, Interrupting(1))
    note(8, 9, 3, 3)
    reader.drain(last=True)
    assert sorted(record.argument for record in reader.records()) == [1, 2, 3]


def test_a_half_written_record_is_not_read() -> None:
    """A record without its tag, as a killed writer leaves it, counts as lost."""
    words = buffer()
    reader, note = TraceReader(Copied(words)), writer(words)
    fill(note, 0, 3)
    words[8 + 4 * 2] = 0  # numbers begin with 1
    reader.drain(last=True)
    assert [record.argument for record in reader.records()] == [0, 2]
    assert reader.lost == 1


def test_a_later_reader_sees_only_what_is_later() -> None:
    """A second trace of one process does not contain the first."""
    words = buffer()
    note = writer(words)
    fill(note, 0, 50)
    reader = TraceReader(Copied(words))
    fill(note, 50, 5)
    reader.drain(last=True)
    assert [record.argument for record in reader.records()] == [50, 51, 52, 53, 54]


def test_arguments_and_durations_never_raise() -> None:
    """What does not fit a word is cut, and an end before its begin is a duration of 0."""
    words = buffer()
    reader, note = TraceReader(Copied(words)), writer(words)
    note(10, 3, 1, -1)
    note(10, 11, 1, 1 << 70)
    reader.drain(last=True)
    assert [(r.end, r.argument) for r in reader.records()] == [(10, (1 << 64) - 1), (11, 0)]


def test_a_lease_that_is_over_is_reported() -> None:
    """The first record that ends after the lease calls whoever removes the trace points."""
    calls = []
    note = make_note(buffer(), [100], lambda: calls.append(1))
    note(90, 99, 1, 0)
    assert not calls
    note(90, 101, 1, 0)
    assert calls


@given(WORD, WORD)
def test_trap_arguments_fit_a_word(key: int, sequence: int) -> None:
    """Whatever a guest has written into its slot, the argument of the record is a word, key below, sequence above."""
    argument = trap_argument(key, sequence)
    assert argument == (sequence & 0xFFFFFFFF) << 32 | key & 0xFFFFFFFF


@given(st.lists(st.one_of(WORD, st.integers(0, 8 * CAPACITY)), max_size=40))
def test_a_writer_that_lies_costs_the_collector_a_bounded_amount(claims: list[int]) -> None:
    """Whatever a process says of how far it is, the collector keeps no more than its limit, and counts the rest."""
    words = buffer()
    reader = TraceReader(Copied(words))
    for claim in claims:
        words[0] = claim
        reader.drain()
    kept = sum(len(chunk) for _, chunk in reader._chunks)
    assert kept <= 32 * MOST_RECORDS
    assert reader.lost >= 0


def test_the_collector_stops_at_its_limit() -> None:
    """A writer that laps the buffer between any two drains fills the collector once, and then only its counter."""
    words = buffer()
    reader = TraceReader(Copied(words))
    for turn in range(1, 2 * MOST_RECORDS // CAPACITY):
        words[0] = turn * CAPACITY
        reader.drain()
    kept = sum(len(chunk) for _, chunk in reader._chunks) // 32
    assert kept == MOST_RECORDS
    assert reader.lost + kept == words[0] - 16


def test_a_buffer_of_another_size_is_refused() -> None:
    """Neither side works on memory that is no trace buffer."""
    with pytest.raises(LayoutError, match="trace buffer"):
        TraceReader(Copied(memoryview(bytearray(64)).cast("Q")))
    with pytest.raises(LayoutError, match="trace buffer"):
        writer(memoryview(bytearray(64)).cast("Q"))
