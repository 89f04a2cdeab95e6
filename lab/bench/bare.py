"""Two bare processes that hand control to each other, with nothing but a doorbell between them.

The yardstick of ``bench handoff``: run as a program of its own, so that no other part of worldswitch is in the
processes. Prints one JSON array of round trips in ns. Arguments: doorbell, CPU of each process, rounds.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import posix_ipc

from machine import signalpipe
from machine.doorbell import BELL_SIGNAL, SPIN_LOADS, SignalBell, SpinBell

__all__ = ["main", "round_trips"]

_Side = tuple[Callable[[], object], Callable[[], object]]  # wake the other, wait to be woken
_Sides = tuple[Callable[[], _Side], Callable[[], _Side]]  # near and far, each opened in its own process
_TAKEN: Final = {BELL_SIGNAL}


def _eventfd_sides() -> _Sides:
    ping, pong = os.eventfd(0), os.eventfd(0)
    return (
        lambda: (lambda: os.eventfd_write(ping, 1), lambda: os.eventfd_read(pong)),
        lambda: (lambda: os.eventfd_write(pong, 1), lambda: os.eventfd_read(ping)),
    )


def _semaphore() -> posix_ipc.Semaphore:
    semaphore = posix_ipc.Semaphore(f"/worldswitch-bare-{secrets.token_hex(4)}", posix_ipc.O_CREX, mode=0o600)
    semaphore.unlink()
    return semaphore


def _semaphore_sides() -> _Sides:
    ping, pong = _semaphore(), _semaphore()
    return lambda: (ping.release, pong.acquire), lambda: (pong.release, ping.acquire)


def _signal_sides() -> _Sides:
    signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)  # before the fork: both sides take it with sigwaitinfo
    (pinged, ping), (ponged, pong) = signalpipe.make(), signalpipe.make()

    def side(own_end: int, other_end: int) -> Callable[[], _Side]:
        def open_side() -> _Side:
            bell, other = SignalBell(own_end, mine=True), SignalBell(other_end, mine=False)
            bell.own()
            nothing = memoryview(b"")
            return other.ring, lambda: bell.wait(nothing, 0, 0)

        return open_side

    return side(ponged, ping), side(pinged, pong)


def _spin_sides(loads: int) -> _Sides:
    words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    ping_bell = SpinBell(os.eventfd(0), [(words, 16)], loads)
    pong_bell = SpinBell(os.eventfd(0), [(words, 24)], loads)

    def make(mine: int, my_bell: SpinBell, theirs: int, their_bell: SpinBell) -> _Side:
        def wake() -> None:
            words[theirs] += 1
            their_bell.ring()

        seen = 0

        def wait() -> None:
            nonlocal seen
            while words[mine] == seen:
                my_bell.wait(words, mine, seen)
            seen += 1

        return wake, wait

    return lambda: make(8, pong_bell, 0, ping_bell), lambda: make(0, ping_bell, 8, pong_bell)


def _serve(side: _Side, cpu: int, rounds: int) -> None:
    os.sched_setaffinity(0, {cpu})
    wake, wait = side
    for _ in range(rounds):
        wait()
        wake()
    os._exit(0)


def round_trips(kind: str, cpus: tuple[int, int], rounds: int) -> list[int]:
    """Times of ``rounds`` round trips in ns, between this process on cpus[0] and a child on cpus[1]."""
    makers: dict[str, Callable[[], _Sides]] = {
        "eventfd": _eventfd_sides,
        "semaphore": _semaphore_sides,
        "signal": _signal_sides,
        "spin": partial(_spin_sides, 0 if cpus[0] == cpus[1] else SPIN_LOADS),
    }
    near, far = makers[kind]()
    child = os.fork()
    if child == 0:
        _serve(far(), cpus[1], rounds)
    os.sched_setaffinity(0, {cpus[0]})
    wake, wait = near()
    times = [0] * rounds
    clock = time.monotonic_ns
    for i in range(rounds):
        started = clock()
        wake()
        wait()
        times[i] = clock() - started
    os.waitpid(child, 0)
    return times


def main() -> int:
    """Runs what the arguments ask for; returns the exit status."""
    kind, near, far, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(round_trips(kind, (near, far), rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
