"""A line that stays up is signalled again after each unmasking, whatever else the vmm has to do meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.served import ClientRig, frame_for, served

pytestmark = pytest.mark.timeout(60)
PEER = bytes.fromhex("525400c61299")
SOON_S = 0.5  # half a tick of these stacks; a millisecond on an idle machine


def _raise_line(rig: ClientRig) -> None:
    """The chip has an interrupt that nobody acknowledges; its first signal is taken."""
    rig.start()
    rig.queue(0, frame_for(PEER))
    rig.kick()
    assert rig.interrupted()


@contextmanager
def _interrupted_all_the_time(pid: int) -> Iterator[None]:
    """Sends a process SIGIO, about every 30 us."""
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGIO)
            until = time.perf_counter_ns() + 30_000
            while time.perf_counter_ns() < until:
                pass

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("linger_us", [0, 50, 1000])
def test_signalled_again_without_a_tick(tmp_path: Path, linger_us: int) -> None:
    """However long the vmm looks for requests before it sleeps, it does not sleep on an interrupt that it owes."""
    with served(tmp_path, profile="fast", linger_us=linger_us, tick_ms=1000) as machine, machine.rig() as rig:
        _raise_line(rig)
        for _ in range(5):
            rig.client.unmask()
            assert rig.interrupted(SOON_S)


def test_signalled_again_while_frames_interrupt(tmp_path: Path) -> None:
    """SIGIOs that leave no silence do not hold the signal back."""
    with served(tmp_path, profile="fast", tick_ms=1000) as machine, machine.rig() as rig:
        _raise_line(rig)
        with _interrupted_all_the_time(machine.stack.pids["vmm"]):
            for _ in range(5):
                rig.client.unmask()
                assert rig.interrupted(SOON_S)
