"""How the command line says what is wrong: one line on stderr, whatever the message was."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["complain"]


def complain(problem: object) -> None:
    """Prints ``problem`` in one line; if nobody reads stderr any more, it says nothing."""
    with contextlib.suppress(OSError):
        print(f"worldswitch: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)
