"""Link rates: what is accepted, what is refused, and that the bucket fits the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import ConfigError
from netbackend.rate import FASTEST, SLOWEST, TokenBucket, format_rate, parse_rate

RATES = st.integers(SLOWEST, FASTEST)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("none", None),
        ("100mbit", 100_000_000),
        ("1gbit", 1_000_000_000),
        ("250Mbit", 250_000_000),
        ("64kbit", 64_000),
        ("400gbit", 400_000_000_000),
        ("64000bit", 64_000),
    ],
)
def test_rates_are_decimal_bits_per_second(text, rate):
    """Units are powers of ten, in any case; none means no limit."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0mbit", "-1mbit", "100", "fast", "1.5gbit", "63999bit", "401gbit", "1tbit", " 1mbit", "1mbit\n"),
        *("٣mbit", "9" * 15 + "gbit", "9" * 5000 + "mbit", "100mbyte"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused_in_one_line(text):
    """Zero, negative, nonsense and out-of-range rates are ConfigErrors that say what is allowed."""
    with pytest.raises(ConfigError, match=r"from 64kbit to 400gbit") as caught:
        parse_rate(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_rate_in_range_or_a_config_error(text):
    """No text makes parse_rate fail in another way, or answer with a rate out of range."""
    try:
        rate = parse_rate(text)
    except ConfigError:
        return
    assert rate is None or SLOWEST <= rate <= FASTEST


@given(st.none() | RATES)
def test_format_rate_is_undone_by_parse_rate(rate):
    """A rate survives being written and read again."""
    assert parse_rate(format_rate(rate)) == rate


@given(RATES)
def test_every_bucket_holds_two_full_frames_and_never_more_than_the_queue(rate):
    """No legal rate gives a bucket that drops full frames, or numbers that the kernel's 32-bit fields can't hold."""
    bucket = TokenBucket.for_line(rate)
    assert 2 * 1518 <= bucket.burst < bucket.limit <= 0xFFFFFFFF
    assert bucket.rate == rate // 8


def test_the_bucket_of_100_mbit_is_one_millisecond_deep():
    """At 100 Mb/s a pause is followed by at most 1 ms of line, and a thousand frames can wait."""
    assert TokenBucket.for_line(100_000_000) == TokenBucket(12_500_000, 12_500, 12_500 + 1000 * 1518)
