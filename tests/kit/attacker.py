"""A role that does its work, and at a signal something else: what a guest, vmm or vmapp that was taken over could do.

Arguments: role, source, control descriptor. The process starts as any other of its role; it is the real one. On
STRIKE it executes the source in a thread of its own, made before the role gave up the right to make any: Python, with
the names ``station`` (``machine.launch.Station``), ``role`` and ``report``, a dict that is sent to the supervisor as
the event "attacked" when the source ends, with its "error" if it raised. The source runs as the role's user, after
the role has given up its privileges, and holds its descriptors.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from machine.launch import Station, run_role
from machine.process import confine, drop_privileges
from tests.kit.impostor import prepared

__all__ = ["STRIKE", "main"]

STRIKE: Final = signal.SIGUSR2


def _attack(station: Station, source: str, struck: threading.Event) -> None:
    report: dict[str, Any] = {"event": "attacked"}
    struck.wait()
    drop_privileges()  # what a thread was made without it has not: the role has given these up since
    confine(resizing="pcap" in station.fds)
    try:
        exec(compile(source, "<attack>", "exec"), {"station": station, "role": station.role, "report": report})
    except Exception as error:  # noqa: BLE001 - whatever an attack runs into is its result
        report["error"] = repr(error)
    station.control.send(report)


def _prepare(station: Station) -> Callable[[], None]:
    loop = prepared(station.role, station)
    struck = threading.Event()
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)  # for the thread: the role's signals are the role's
    threading.Thread(target=_attack, args=(station, sys.argv[2], struck), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    signal.signal(STRIKE, lambda *_: struck.set())
    return loop


def main() -> int:
    """The process's life; its exit status."""
    return run_role(sys.argv[1], _prepare)
