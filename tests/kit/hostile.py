"""A stack whose guest is ``tests.kit.hostile_guest``, and words in its shared pages that nobody may touch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from lab.stack import Stack
from machine.counters import indices
from machine.lance.state import STATE_WORDS
from machine.layout import COUNTER_PAGE_BYTES, LANCE_OFFSET, PORT_TABLE, WORLD_BYTES
from machine.shm import attach
from tests.kit.impostor import ImpostorStack, module_program

__all__ = ["Canary", "hostile_guest"]

_PATTERN: Final = 0xC0FFEE_5EED_C0DE


def hostile_guest(seed: int, seconds: float) -> Callable[..., Stack]:
    """Makes a Stack whose guest attacks for ``seconds``, then sends the event "sane"."""
    guest = module_program("tests.kit.hostile_guest", str(seed), str(seconds))
    return partial(ImpostorStack, programs={"guest": guest})


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
