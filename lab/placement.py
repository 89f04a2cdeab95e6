"""On which CPU each thread of a stack with a QEMU guest runs, if it has more than one.

A port access goes from QEMU's processor thread to the vmm, from there to QEMU's thread for the socket, and back to the
processor thread. The two threads of QEMU take turns, so they share a CPU: waking across CPUs costs more, and the
processor would wait for a lock that the other holds a little longer. The vmm looks for requests on another CPU.
QEMU's main loop raises the interrupts; it is where the processor is, and goes before it, or the processor would take
the lock that both need again and again (measured in docs/experiments/qemu.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from machine.process import shorten_slice

__all__ = ["place_guest"]

_PROCESSOR: Final = "CPU "  # how QEMU names the threads of its processors: "CPU 0/TCG"


def place_guest(pids: Mapping[str, int], cpus: Sequence[int]) -> None:
    """Spreads vmm, vmapp and the QEMU that is ``guest`` over ``cpus``; with one CPU there is nothing to spread.

    What cannot be had, because a thread has ended or the kernel refuses, is left as it is.
    """
    first, rest = set(cpus[:1]), set(cpus[1:])
    if not rest:
        return
    for tid, name in _threads(pids["guest"]):
        _restrict(tid, first)
        if not name.startswith(_PROCESSOR):
            shorten_slice(tid)
    for role in ("vmm", "vmapp"):
        _restrict(pids[role], rest)
    shorten_slice(pids["vmm"])


def _restrict(tid: int, cpus: set[int]) -> None:
    with suppress(OSError):
        os.sched_setaffinity(tid, cpus)


def _threads(pid: int) -> Iterator[tuple[int, str]]:
    """(thread id, name) of a process's threads."""
    with suppress(psutil.Error):
        for thread in psutil.Process(pid).threads():
            with suppress(OSError):
                yield thread.id, Path(f"/proc/{pid}/task/{thread.id}/comm").read_text()
