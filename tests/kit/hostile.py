"""A stack whose guest is ``tests.kit.hostile_guest``, and words in its shared pages that nobody may touch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from lab.child import spawn_python
from lab.stack import Stack
from machine.counters import indices
from machine.lance.state import STATE_WORDS
from machine.layout import COUNTER_PAGE_BYTES, LANCE_OFFSET, PORT_TABLE, WORLD_BYTES
from machine.shm import attach

__all__ = ["Canary", "HostileStack"]

_ROOT: Final = Path(__file__).parents[2]
_PATTERN: Final = 0xC0FFEE_5EED_C0DE


class HostileStack(Stack):
    """Like Stack; its guest attacks for ``seconds``, then sends the event "sane"."""

    def __init__(self, *arguments: Any, seed: int, seconds: float) -> None:
        super().__init__(*arguments)
        self._guest_arguments = (str(seed), str(seconds))

    def _spawn(self, role: str) -> None:
        if role != "guest":
            super()._spawn(role)
            return
        words = ("-P", "-m", "tests.kit.hostile_guest", *self._guest_arguments)
        fds = self.keeper.of(role).values()
        environment = os.environ | {"PYTHONPATH": str(_ROOT)}
        self._children[role] = spawn_python(role, words, fds, environment=environment)


class Canary:
    """Unused words of the pages that a guest does not even see, filled with a pattern."""

    def __init__(self, stack: Stack) -> None:
        tail = (LANCE_OFFSET + 4 * STATE_WORDS) // 8
        world = attach(stack.keeper.fd("vmm", "world"), WORLD_BYTES).cast("Q")
        self._views = [world[tail:], world[64 : LANCE_OFFSET // 8]]
        for role in ("vmm", "vmapp"):
            page = attach(stack.keeper.fd(role, "counters"), COUNTER_PAGE_BYTES).cast("Q")
            self._views.append(page[len(indices(role)) : PORT_TABLE])
        for view in self._views:
            view[:] = memoryview(_PATTERN.to_bytes(8, "little") * len(view)).cast("Q")

    @property
    def untouched(self) -> bool:
        return all(word == _PATTERN for view in self._views for word in view)
