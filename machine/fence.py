"""A full memory fence, for the few handshakes in which each side stores one word and then loads the other's.

x86-64 lets a load pass an earlier store to another address, and Python has no fence of its own; but taking a free
lock is a locked instruction, which is one. (On arm64 it is not, and there the processes share one CPU:
``machine.ring``.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

__all__ = ["make_fence"]


def make_fence() -> Callable[[], object]:
    """A function that orders every store before the call before every load after it. Single-threaded use only."""
    lock: Final = threading.Lock()

    def fence() -> None:
        lock.acquire()
        lock.release()

    return fence
