"""Tracing on and off in all processes of a stack, from the process that owns it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Final

from lab.processes import is_alive
from lab.requests import ANSWER_SECONDS, UNDO_SECONDS
from lab.stack import Stack
from machine.control import Message
from machine.errors import StackError, WorldswitchError
from machine.shm import reserve
from machine.trace import TRACE_BYTES

__all__ = ["LONGEST_SECONDS", "TraceService", "switch_tracing"]

LONGEST_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 2.0  # after that the processes stop by themselves, if nobody has told them to
_LEAST_SECONDS: Final = 0.1  # for a process that is told when the others have taken all the time
_NS: Final = 1_000_000_000


def switch_tracing(stack: Stack, seconds: float) -> None:
    """Traces for ``seconds``, unless it is called again before they are over; 0: no longer.

    SetupError if there is no memory for the buffers; they keep what they have had until the stack ends. StackError or
    ConfigError if a process does not take part: then nobody traces, but those that cannot be told so do until the time
    is over.
    """
    until = time.monotonic_ns() + int((seconds + _GRACE_SECONDS) * _NS) if seconds > 0 else 0
    if until:
        _reserve(stack)
    deadline = time.monotonic() + ANSWER_SECONDS
    failures: list[WorldswitchError] = []
    for role in stack.controls:
        try:
            stack.tell(role, {"trace": until}, None, max(_LEAST_SECONDS, deadline - time.monotonic()))
        except WorldswitchError as error:
            failures.append(error)
            if until:
                break
    if failures and until:
        with contextlib.suppress(WorldswitchError):
            for role in stack.controls:
                stack.tell(role, {"trace": 0}, None, UNDO_SECONDS / len(stack.controls))
    if failures:
        raise failures[0]


def _reserve(stack: Stack) -> None:
    """Has every page of the buffers there; they are large, so stacks that are never traced go without."""
    for fd in stack.trace_fds().values():
        reserve(fd, TRACE_BYTES)


class TraceService:
    """The supervisor's answers to {"command": "trace", "seconds", "owner"}, for one client at a time.

    Tracing is on or off for the whole stack, and the buffers are one for each process: a second client would end the
    first one's trace with its own. So whoever switches it on has it until he switches it off, until the time that he
    asked for is over, or until he is dead (``owner``: ``lab.processes.identify``).
    """

    def __init__(self) -> None:
        self._owner: Any = None
        self._until_ns = 0  # 0: nobody traces

    def serve(self, request: Message, stack: Stack) -> Message:
        """Where the buffers are, as pid and descriptors; "ended": when tracing ended; "problem": who was not told."""
        seconds, owner = request.get("seconds"), request.get("owner")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SECONDS:
            raise StackError(f"a trace takes at most {LONGEST_SECONDS:g} s")
        now = time.monotonic_ns()
        if self._until_ns > now and owner != self._owner and self._owner_lives():
            left = max(1, (self._until_ns - now) // _NS)
            raise StackError(f"a trace of this stack is being recorded by another program, for {left} s at most")
        answer: Message = {"event": "trace", "pid": os.getpid(), "fds": stack.trace_fds(), "pids": stack.pids}
        if seconds:
            switch_tracing(stack, seconds)
            self._owner, self._until_ns = owner, time.monotonic_ns() + int((seconds + _GRACE_SECONDS) * _NS)
        elif self._until_ns:
            answer["ended"] = min(now, self._until_ns)
            self._owner, self._until_ns = None, 0
            try:
                switch_tracing(stack, 0)
            except WorldswitchError as error:  # they stop by themselves soon; the client keeps what it has
                answer["problem"] = str(error)
        return answer

    def _owner_lives(self) -> bool:
        try:
            return self._owner is None or is_alive(self._owner)
        except (TypeError, KeyError):  # a client may send anything
            return True
