"""What is made, started, set and removed, said to whoever listens: ``--verbose`` does (``lab.verbose``).

It goes through the standard library's logger of the name below. As long as nobody listens that is a test of a level;
still, nothing on the path of a trap or a frame says anything here.
"""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["LOGGER", "note"]

LOGGER: Final = "worldswitch"


def note(text: str, *values: object) -> None:
    """One line, made of ``text`` by % only if somebody listens."""
    logging.getLogger(LOGGER).debug(text, *values)
