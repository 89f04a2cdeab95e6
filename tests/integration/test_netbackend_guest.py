"""Guest to peer with the emulation left out: a relay between the two TAPs stands in for driver, vmm and vmapp."""

from __future__ import annotations

import os
import select
import socket
import threading

import pytest

from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.topology import build

MEGABYTE = 1 << 20


class Relay(threading.Thread):
    """Carries frames between two TAPs until ``stop``; ``largest``: bytes of the longest."""

    def __init__(self, first, second):
        super().__init__(daemon=True)
        self.other = {first: second, second: first}
        self.ending = threading.Event()
        self.largest = 0

    def run(self):
        while not self.ending.is_set():
            for fd in select.select(list(self.other), [], [], 0.05)[0]:
                frame = os.read(fd, 1 << 17)
                self.largest = max(self.largest, len(frame))
                os.write(self.other[fd], frame)

    def stop(self):
        self.ending.set()
        self.join()


@pytest.fixture
def network():
    """A network whose TAPs are joined by a relay, ``network.relay``."""
    with build(NetworkPlan(f"g{os.getpid()}"), None) as built:
        built.relay = Relay(built.guest_tap, built.host_tap)
        built.relay.start()
        yield built
        built.relay.stop()


def tcp(station):
    """A TCP socket of a station, bound to its address."""
    made = namespaces.run(station.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    made.settimeout(5)
    made.bind((station.address, 0))
    return made


@pytest.mark.parametrize("pair", [("guest", "peer"), ("peer", "guest"), ("guest", "host"), ("native", "guest")])
def test_a_megabyte_crosses_in_frames_that_a_lance_can_carry(network, pair):
    """TCP between the guest and anyone arrives whole, and no frame at the TAPs exceeds 1514 bytes: no offload left."""
    source, sink = (network.plan.stations[role] for role in pair)
    data = os.urandom(MEGABYTE)
    with tcp(sink) as listener, tcp(source) as sender:
        listener.listen()
        sender.connect(listener.getsockname())
        worker = threading.Thread(target=lambda: (sender.sendall(data), sender.shutdown(socket.SHUT_WR)))
        worker.start()
        receiver, _ = listener.accept()
        with receiver:
            receiver.settimeout(5)
            arrived = b"".join(iter(lambda: receiver.recv(1 << 16), b""))
        worker.join()
    assert arrived == data
    assert network.relay.largest == 1514
