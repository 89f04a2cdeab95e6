"""How tracing gets into a running process, and out of it again without a trace.

A trace point is a method that takes the time around the one it overrides, in a subclass that adds nothing else.
Switching tracing on makes the living object an instance of that subclass; switching it off gives it its own
class back. So code that is not traced holds no test for it, and makes no call more than if tracing did not exist.

Each override measures within one call of its own, so both changes may happen between any two bytecodes: a call
that is under way ends as it began. A process may therefore do it in a signal handler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Final

from machine.errors import ConfigError
from machine.shm import attach
from machine.trace import TRACE_BYTES, Note, make_note

__all__ = ["Points", "Seam", "Tracer", "attribute", "override"]

_LONGEST_NS: Final = 3600 * 1_000_000_000


class Seam:
    """Where an object's behaviour can be exchanged: ``install()`` and ``remove()``, both harmless twice."""

    def __init__(self, target: object, name: str, value: object) -> None:
        self._target = target
        self._name = name
        self._own = getattr(target, name)
        self._value = value

    def install(self) -> None:
        """From now on the traced behaviour."""
        setattr(self._target, self._name, self._value)

    def remove(self) -> None:
        """The object is as it was made."""
        setattr(self._target, self._name, self._own)


def attribute(target: object, name: str, value: object) -> Seam:
    """A seam that exchanges an attribute; for what is not of a class of ours."""
    return Seam(target, name, value)


def override(target: object, kind: type) -> Seam:
    """A seam that makes ``target`` a ``kind``: a subclass of its class, with no slots and no __init__ of its own."""
    if not issubclass(kind, type(target)):
        raise ConfigError(f"{kind.__name__} does not trace a {type(target).__name__}")
    return Seam(target, "__class__", kind)


Points = Callable[[Note], Sequence[Seam]]
"""Makes a process's trace points; they write with the given function."""


class Tracer:
    """Tracing in one process; off until ``switch`` says otherwise.

    ``fd``: the trace buffer. ``changed`` is called after each change, for whoever keeps methods of the seams' objects.
    """

    def __init__(self, fd: int | None, points: Points, changed: Callable[[], None] = lambda: None) -> None:
        self._fd = fd
        self._points = points
        self._changed = changed
        self._seams: Sequence[Seam] | None = None
        self._lease = [0]  # CLOCK_MONOTONIC at which tracing ends by itself, ns

    def switch(self, until: Any) -> None:
        """Traces until CLOCK_MONOTONIC is ``until`` ns, whatever becomes of who asked for it; 0: no longer."""
        if not isinstance(until, int) or until > monotonic_ns() + _LONGEST_NS:
            raise ConfigError(f"bad end of a trace: {until!r}")
        if until <= 0:
            self._remove()
            return
        self._lease[0] = until
        if self._seams is None:
            self._seams = self._points(self._make_note())
        for seam in self._seams:
            seam.install()
        self._changed()

    def _make_note(self) -> Note:
        if self._fd is None:
            raise ConfigError("this process has no trace buffer")
        return make_note(attach(self._fd, TRACE_BYTES).cast("Q"), self._lease, self._remove)

    def _remove(self) -> None:
        for seam in self._seams or ():
            seam.remove()
        self._changed()
