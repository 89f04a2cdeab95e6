"""The line in which the vmm says what keeps the card from working."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from machine.counters import VMM, indices
from machine.layout import COUNTER_PAGE_BYTES, PORT_TABLE, TROUBLE, TROUBLE_WORDS
from machine.trouble import Trouble, read_trouble


def page() -> memoryview:
    """A vmm's counter page."""
    return memoryview(bytearray(COUNTER_PAGE_BYTES)).cast("Q")


def test_the_first_line_stays_until_it_is_cleared() -> None:
    """What went wrong first is the cause of the rest; afterwards there is room for the next client's."""
    words = page()
    trouble = Trouble(words)
    assert read_trouble(words) is None
    trouble.clear()
    trouble.note("the cause")
    trouble.note("what came of it, at greater length")
    assert read_trouble(words) == "the cause"
    trouble.clear()
    assert read_trouble(words) is None
    trouble.note("another")
    assert read_trouble(words) == "another"


def test_it_has_a_place_of_its_own() -> None:
    """Neither a counter nor a port is overwritten, however long the line is."""
    words = page()
    Trouble(words).note("x" * 10_000)
    assert read_trouble(words) == "x" * TROUBLE_WORDS * 8
    assert len(indices(VMM)) <= TROUBLE
    assert set(words[:TROUBLE]) | set(words[PORT_TABLE:]) == {0}


@given(st.text(max_size=300))
def test_any_text_is_one_harmless_line(text: str) -> None:
    """Controls, escapes and lone surrogates do not reach the reader."""
    words = page()
    Trouble(words).note(text)
    found = read_trouble(words)
    assert found is None or (found.isprintable() and found != "")


@given(st.lists(st.integers(0, 2**64 - 1), min_size=TROUBLE_WORDS, max_size=TROUBLE_WORDS))
def test_any_words_are_read(values: list[int]) -> None:
    """The page is the vmm's: whatever is in it, the reader gets a line or none."""
    words = page()
    for index, value in enumerate(values):
        words[TROUBLE + index] = value
    found = read_trouble(words)
    assert found is None or (found.isprintable() and len(found) <= TROUBLE_WORDS * 8)
