"""Tracing on and off in all processes of a stack, from the process that owns it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

from lab.stack import Stack
from machine.control import Message
from machine.errors import ProcessDiedError, StackError
from machine.shm import reserve
from machine.trace import TRACE_BYTES

__all__ = ["LONGEST_SECONDS", "serve_trace", "switch_tracing"]

LONGEST_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 2.0  # after that the processes stop by themselves, if nobody has told them to
_NS: Final = 1_000_000_000


def switch_tracing(stack: Stack, seconds: float) -> None:
    """Traces for ``seconds``, unless it is called again before they are over; 0: no longer.

    SetupError if there is no memory for the buffers; they keep what they have had until the stack ends.
    """
    until = time.monotonic_ns() + int((seconds + _GRACE_SECONDS) * _NS) if seconds > 0 else 0
    if until:
        _reserve(stack)
    try:
        for role in stack.controls:
            stack.tell(role, {"trace": until})
    except BaseException:
        if until:
            with contextlib.suppress(ProcessDiedError):
                switch_tracing(stack, 0)
        raise


def _reserve(stack: Stack) -> None:
    """Has every page of the buffers there; they are large, so stacks that are never traced go without."""
    for fd in stack.trace_fds().values():
        reserve(fd, TRACE_BYTES)


def serve_trace(request: Message, stack: Stack) -> Message:
    """The supervisor's answer to {"command": "trace", "seconds"}: where the buffers are, as pid and descriptors."""
    seconds = request.get("seconds")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SECONDS:
        raise StackError(f"a trace takes at most {LONGEST_SECONDS:g} s")
    switch_tracing(stack, seconds)
    return {"event": "trace", "pid": os.getpid(), "fds": stack.trace_fds(), "pids": stack.pids}
