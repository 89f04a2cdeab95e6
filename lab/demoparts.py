"""A demonstration in parts, each on its own: one that fails is told, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lab.stack import Stack
from lab.textlayout import wrapped
from machine.errors import BenchError, GuestError, ProcessDiedError, StackError

__all__ = ["Parts", "step"]

T = TypeVar("T")


class Parts:
    """The parts of one column or mode, ``title``. ``failures``: a line for each that failed; ``worked``: the others."""

    def __init__(self, title: str, stack: Stack) -> None:
        self.title = title
        self.failures: list[str] = []
        self.worked = 0
        self._stack = stack

    def do(self, label: str, work: Callable[[], T]) -> T | None:
        """What ``work`` returns; None if it failed. ProcessDiedError if the stack is no more: nothing goes on then."""
        step(f"{self.title}: {label}")
        try:
            done = work()
        except (BenchError, GuestError, StackError) as error:
            died = self._stack.died()
            if died is not None:
                raise ProcessDiedError(died) from error
            self.failures.append(f"{label}: failed: {error}")
            return None
        self.worked += 1
        return done


def step(text: str) -> None:
    """A line that says what is going on."""
    print(wrapped(f"==> {text}", hanging="    "), flush=True)
