"""The bare relay: one Python process that copies frames between two TAPs, and nothing else.

What any virtual NIC in this language could reach at best on this path: one read() and one write() a frame, bursts, one
buffer; no NIC, no rings, no guest. ``relay`` runs it; ``python -m lab.load.relay FD FD`` is the process.
"""

from __future__ import annotations

import gc
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from lab.load.place import check_running, first_line, python_module, started
from machine.process import set_name

__all__ = ["forward", "main", "pump", "relay"]

_NAME: Final = "relay"
_BURST_FRAMES: Final = 64  # then it is the other direction's turn: acknowledgements must not starve
_BUFFER_BYTES: Final = 2048  # a whole frame of MTU 1500, with VLAN tag
_START_SECONDS: Final = 10.0


@contextmanager
def relay(tap_a: int, tap_b: int, cpus: Sequence[int] = ()) -> Iterator[dict[str, int]]:
    """The relay between two TAPs (non-blocking descriptors, which stay the caller's) while the block runs.

    Yields name -> pid. BenchError if it does not start, or ends before the block does.
    """
    with started(python_module("lab.load.relay", tap_a, tap_b), cpus=cpus, fds=(tap_a, tap_b)) as process:
        first_line(process, _NAME, _START_SECONDS)
        yield {_NAME: process.pid}
        check_running(process, _NAME)


def pump(source: int, sink: int) -> Callable[[], int]:
    """A function that moves what waits at ``source`` to ``sink``, a burst at most, and returns how many frames.

    Non-blocking descriptors. A frame that the sink has no room for is lost, as on a switch.
    """
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    buffers = (buffer,)
    read, write, burst = os.readv, os.write, range(_BURST_FRAMES)

    def move() -> int:
        frames = 0
        for frames in burst:
            try:
                length = read(source, buffers)
            except BlockingIOError:
                return frames
            try:
                write(sink, buffer[:length])
            except BlockingIOError:
                pass
        return frames + 1

    return move


def forward(tap_a: int, tap_b: int) -> None:
    """Copies both ways; returns only by OSError, when a TAP has gone."""
    moves = {tap_a: pump(tap_a, tap_b), tap_b: pump(tap_b, tap_a)}
    with select.epoll(len(moves)) as ready:
        for fd in moves:
            ready.register(fd, select.EPOLLIN)
        wait = ready.poll
        while True:
            for fd, _ in wait():
                moves[fd]()


def main(arguments: Sequence[str]) -> int:
    """The process: arguments are the two descriptors; it says "ready" and copies until it is ended."""
    tap_a, tap_b = map(int, arguments)
    set_name(_NAME)
    gc.freeze()  # as the stack's processes do: nothing in the loop makes garbage cycles
    gc.disable()
    print("ready", flush=True)
    try:
        forward(tap_a, tap_b)
    except OSError as error:
        print(f"a TAP is gone: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
