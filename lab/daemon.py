"""A supervisor that outlives its terminal: own session, no terminal, its start still reported to whoever asked."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lab.complaint import lack_of
from lab.logfile import trim
from machine.control import Channel

__all__ = ["LOG_BYTES", "launch", "log_to", "trim_log"]

LOG_BYTES: Final = 1 << 20
"""What a log may hold; of a longer one the newest half stays."""

_UMASK: Final = 0o022
_STANDARD: Final = (0, 1, 2)
_ERROR: Final = 2


def launch(work: Callable[[Channel], None]) -> Channel:
    """Runs ``work`` in a daemon and returns the other end of the channel that it is given.

    The daemon ends when ``work`` returns. What it raises goes through the channel as one line: what the machine did
    not grant, or a defect, whose traceback goes to standard error, the log if there is one.
    """
    here, there = Channel.pair()
    child = os.fork()
    if child == 0:
        here.close()
        _become_daemon(there, work)
    there.close()
    os.waitpid(child, 0)
    return here


def _become_daemon(channel: Channel, work: Callable[[Channel], None]) -> None:
    """Does not return. The second fork gives up the session's leadership, and so any way to gain a terminal."""
    status = 1
    try:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            os.umask(_UMASK)
            _close_others(channel.fileno())
            log_to(Path(os.devnull))
            work(channel)
        status = 0
    except Exception as error:
        lack = lack_of(error)
        if lack is None:  # what a limit did not grant is said in one line, and whoever waits for it says it
            traceback.print_exc()
        channel.send({"event": "failed", "message": lack or f"a defect: {error!r}", "status": 1})
        raise
    finally:
        os._exit(status)


def _close_others(kept: int) -> None:
    """Closes everything that was inherited but the standard descriptors and ``kept``.

    What a caller has open, a lock, a pipe whose end somebody waits for, would otherwise stay open for as long as the
    stack is up. This process has opened nothing yet that it needs.
    """
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in (*_STANDARD, kept):
            with contextlib.suppress(OSError):  # the one that the listing itself took
                os.close(fd)


def log_to(path: Path) -> None:
    """From now on nothing is read from a terminal, and what is written goes to ``path``."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    for fd, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, standard)
    for fd in {null, log} - set(_STANDARD):
        os.close(fd)


def trim_log() -> None:
    """Cuts the log that ``log_to`` began, if it has grown too long; this process alone writes it."""
    with contextlib.suppress(OSError):  # it is not a file, or not to be cut: no reason to end
        trim(_ERROR, LOG_BYTES)
