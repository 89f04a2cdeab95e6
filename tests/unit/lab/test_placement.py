"""Which thread of a stack with a QEMU guest goes to which CPU."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator

import pytest

from lab import placement
from lab.placement import place_guest

PR_SET_NAME = 15


class Guest:
    """Plays QEMU, and is this process: one thread bears the name of a processor's."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()
        self.processor = self._thread.native_id

    def _run(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"CPU 0/TCG", 0, 0, 0)
        self._ready.set()
        self._over.wait()

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[int, set[int]] | set[int]]:
    """What was asked of the kernel, and not done: thread -> CPUs, and threads with a short slice."""
    restricted: dict[int, set[int]] = {}
    shortened: set[int] = set()
    monkeypatch.setattr(placement.os, "sched_setaffinity", restricted.__setitem__)
    monkeypatch.setattr(placement, "shorten_slice", shortened.add)
    return {"restricted": restricted, "shortened": shortened}


@pytest.fixture(name="guest")
def _guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


def test_qemu_on_the_first_cpu_the_others_on_the_rest(asked, guest: Guest) -> None:
    """All of QEMU's threads share a CPU; all but the processor go first there, as the vmm does on the others."""
    pids = {"guest": os.getpid(), "vmm": 1001, "vmapp": 1002}
    place_guest(pids, (3, 4, 5))
    assert asked["restricted"][1001] == asked["restricted"][1002] == {4, 5}
    assert asked["restricted"][guest.processor] == asked["restricted"][os.getpid()] == {3}
    assert {os.getpid(), 1001} <= asked["shortened"]
    assert not {guest.processor, 1002} & asked["shortened"]


def test_one_cpu_is_left_alone(asked, guest: Guest) -> None:
    """Profile paper: one CPU for all, and nobody goes before anybody."""
    place_guest({"guest": os.getpid(), "vmm": 1001, "vmapp": 1002}, (0,))
    assert not asked["restricted"]
    assert not asked["shortened"]


def test_what_has_ended_is_no_error() -> None:
    """Processes that have ended meanwhile are somebody else's to notice."""
    gone = 2**22 + 1
    place_guest({"guest": gone, "vmm": gone, "vmapp": gone}, (0, 1))
