"""What is said of a problem is one line that does nothing to a terminal, wherever its words are from."""

from __future__ import annotations

import pytest

from lab.complaint import complain, last_line, printable, printable_text

BIDI = "safe\u202etxt.exe\u2066\u200f"
HOSTILE = "\x1b]0;title\x07 \x1b[2J\x9b31m gone\r\n"


def test_a_complaint_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends become spaces; escape and control characters do not reach the terminal."""
    complain(f"the guest said\n{HOSTILE}")
    assert capsys.readouterr().err == "worldswitch: the guest said ]0;title [2J31m gone\n"


def test_text_that_is_shown_does_nothing_to_a_terminal() -> None:
    """Controls, escapes and marks of direction go; of several lines, what makes them lines stays."""
    assert printable(HOSTILE + BIDI) == "]0;title [2J31m gonesafetxt.exe"
    assert printable_text(f"a\tb{HOSTILE}{BIDI}\n") == "a\tb]0;title [2J31m gone\nsafetxt.exe\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), ("\n \n", ""), ("one", "one"), ("one\n two \n\n", "two"), (HOSTILE, "]0;title [2J31m gone")],
)
def test_the_last_line(text: str, line: str) -> None:
    """The last one that is not blank, without what cannot be printed."""
    assert last_line(text) == line
