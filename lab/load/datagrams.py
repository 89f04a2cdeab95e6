"""Lone packets: small UDP datagrams, one at a time, from one machine of the lab to another that ignores them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lab.load.place import Place
from machine.errors import BenchError
from netbackend import namespaces

__all__ = ["send", "sink"]

_PAYLOAD: Final = bytes(18)  # with all headers, the shortest Ethernet frame


@contextmanager
def sink(receiver: Place) -> Iterator[int]:
    """The port of a socket at ``receiver`` that takes datagrams, so that none is answered by ICMP."""
    opened = namespaces.run(receiver.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with opened:
        opened.bind((receiver.address, 0))
        yield opened.getsockname()[1]


def send(sender: Place, receiver: Place, port: int, *, count: int, interval: float) -> None:
    """Sends ``count`` datagrams, one every ``interval`` seconds, from a thread on the sender's CPUs."""

    def pace() -> None:
        if sender.cpus:
            os.sched_setaffinity(0, sender.cpus)  # of this thread alone
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.connect((receiver.address, port))
            begin = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, begin + number * interval - time.monotonic()))
                opened.send(_PAYLOAD)

    try:
        namespaces.run(sender.namespace, pace)
    except OSError as error:
        raise BenchError(f"datagrams to {receiver.address} cannot be sent: {error.strerror}") from None
