"""``--verbose``: what is made, started, set and removed, one line each, while it happens.

Whoever does such a thing says so with ``machine.activity.note``, which nobody listens to otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from machine.activity import LOGGER

__all__ = ["listening", "retell"]

Say = Callable[[str], None]


class _Lines(logging.Handler):
    """Gives each record to ``say`` as one line, with the seconds since the listening began."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.say = say
        self._began = time.time()

    def emit(self, record: logging.LogRecord) -> None:
        self.say(f"[{record.created - self._began:7.3f}] {record.getMessage()}")


@contextmanager
def listening(say: Say) -> Iterator[None]:
    """Within the block, ``say`` is given every line; afterwards all is as it was."""
    logger = logging.getLogger(LOGGER)
    handler, level = _Lines(say), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def retell(say: Say) -> None:
    """From now on whoever listens is given the lines by ``say``: a daemon has no terminal to print them on."""
    for handler in logging.getLogger(LOGGER).handlers:
        if isinstance(handler, _Lines):
            handler.say = say
