"""What a misspelt word was probably meant to be: for commands, options, settings and choices alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["did_you_mean"]

_LIKENESS: Final = 0.6  # difflib's own default: one slip in a short word, two or three in a long one
_LONGEST: Final = 64  # no name here is longer, and the comparison takes quadratic time


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` did you mean X?`` for the name of ``known`` that is most like ``word``; empty if none is like it.

    The text begins with a space, so that it can follow a message's colon.
    """
    import difflib  # only a mistake pays for the import

    by_small = {name.lower(): name for name in known}
    if len(word) > _LONGEST:
        return ""
    found = difflib.get_close_matches(word.lower(), by_small, n=1, cutoff=_LIKENESS)
    return f" did you mean {by_small[found[0]]}?" if found else ""
