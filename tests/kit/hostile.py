"""A stack whose guest is ``tests.kit.hostile_guest``, and words in its shared pages that nobody may touch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from lab.child import Child
from lab.stack import Stack
from machine.control import Channel
from machine.counters import indices
from machine.lance.state import STATE_WORDS
from machine.layout import LANCE_OFFSET, PORT_TABLE

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
        here, there = Channel.pair()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.kit.hostile_guest", str(there.fileno()), *self._guest_arguments],
            pass_fds=(*self.keeper.of(role).values(), there.fileno()),
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            process_group=0,
        )
        there.close()
        self._children[role] = Child(role, process, here, os.pidfd_open(process.pid))


class Canary:
    """Unused words of the pages that a guest does not even see, filled with a pattern."""

    def __init__(self, stack: Stack) -> None:
        tail = (LANCE_OFFSET + 4 * STATE_WORDS) // 8
        self._views = [stack.world[tail:], stack.world[64 : LANCE_OFFSET // 8]]
        self._views += [stack.counters[role][len(indices(role)) : PORT_TABLE] for role in ("vmm", "vmapp")]
        for view in self._views:
            view[:] = memoryview(_PATTERN.to_bytes(8, "little") * len(view)).cast("Q")

    @property
    def untouched(self) -> bool:
        return all(word == _PATTERN for view in self._views for word in view)
