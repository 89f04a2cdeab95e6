"""Processes named in a record: a pid alone may be somebody else's by now, so its start time goes with it.

Source: proc(5), /proc/PID/stat; pidfd_open(2). A pidfd, once its process has been found to be the right one,
stays the right one's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

__all__ = ["Identity", "end", "identify", "is_alive"]

Identity: TypeAlias = dict[str, int]
"""{"pid": number, "started": clock ticks between boot and the process's start}"""


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time in clock ticks; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return fields[0], int(fields[19])


def identify(pid: int) -> Identity:
    """The record of a living process."""
    found = _stat(pid)
    return {"pid": pid, "started": found[1] if found is not None else 0}


def is_alive(identity: Identity) -> bool:
    """Whether that very process still runs; one that has ended but that nobody has collected does not."""
    found = _stat(identity["pid"])
    return found is not None and found[1] == identity["started"] and found[0] not in "ZX"


def end(identities: Iterable[Identity], number: signal.Signals, seconds: float) -> bool:
    """Sends each of those that still run a signal and waits; whether all have ended in time.

    One that is stopped (Ctrl-Z, a background job that has touched its terminal) goes on, or it would not hear of it.
    """
    with contextlib.ExitStack() as opened:
        fds = [fd for identity in identities if (fd := _open(identity, opened)) is not None]
        for fd in fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
                signal.pidfd_send_signal(fd, signal.SIGCONT)
        return _wait(fds, seconds)


def _open(identity: Identity, opened: contextlib.ExitStack) -> int | None:
    try:
        fd = os.pidfd_open(identity["pid"])
    except OSError:
        return None
    opened.callback(os.close, fd)
    return fd if is_alive(identity) else None


def _wait(fds: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    left = set(fds)
    while left:
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            return False
        for fd, _ in ended:
            poll.unregister(fd)
            left.discard(fd)
    return True
