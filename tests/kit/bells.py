"""A doorbell for processes that take turns in one thread: whoever is rung runs at once, nobody ever sleeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Idle", "ScriptedBell"]


class Idle(Exception):  # noqa: N818 (not an error)
    """A process would sleep now: nothing is left for it to do, and nothing is scripted to happen."""


class ScriptedBell:
    """Obeys ``machine.doorbell.Doorbell``. ``on_ring`` is what the owner does when it is rung.

    A wait whose word has not changed takes the next of ``events``, things that happen while the owner sleeps.
    When there is none it asks ``on_sleep`` whether anything else happens, and if not raises Idle.
    """

    def __init__(self, on_ring: Callable[[], None] = lambda: None) -> None:
        self.on_ring = on_ring
        self.on_sleep: Callable[[], bool] = lambda: False
        self.events: deque[Callable[[], object]] = deque()
        self.rings = 0
        self.pokes = 0
        self.waits: list[int] = []

    def ring(self) -> None:
        self.rings += 1
        self.on_ring()

    def wait(self, words: memoryview, index: int, unwanted: int) -> None:
        self.waits.append(index)
        if words[index] == unwanted:
            self._sleep()

    def wait_either(self, first: tuple[memoryview, int, int], second: tuple[memoryview, int, int]) -> None:
        self.waits.append(first[1])
        if all(words[index] == unwanted for words, index, unwanted in (first, second)):
            self._sleep()

    def poke(self) -> None:
        self.pokes += 1

    def _sleep(self) -> None:
        if self.events:
            self.events.popleft()()
        elif not self.on_sleep():
            raise Idle
