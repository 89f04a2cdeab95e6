"""Single packets, each by itself: what one costs when nothing else goes on.

Frames of the EtherType that IEEE 802 keeps for local experiments, sent on a station's own interface: no protocol
takes them, so nothing answers, and each is exactly one packet through the virtual NIC.
"""

from __future__ import annotations

import socket
import time
from typing import Final

from netbackend import namespaces
from netbackend.plan import Station

__all__ = ["ETHERTYPE", "frame", "send_apart"]

ETHERTYPE: Final = 0x88B5  # IEEE 802, Local Experimental Ethertype 1
_SHORTEST: Final = 60  # bytes, without FCS


def frame(source: Station, target: Station) -> bytes:
    """The shortest frame from one station to another."""
    head = bytes.fromhex((target.mac + source.mac).replace(":", "")) + ETHERTYPE.to_bytes(2, "big")
    return head.ljust(_SHORTEST, b"\0")


def send_apart(source: Station, target: Station, count: int, gap: float) -> None:
    """``count`` frames, and ``gap`` seconds of silence after each."""
    packet = frame(source, target)
    with namespaces.run(source.namespace, lambda: _open(source.interface)) as opened:
        for _ in range(count):
            opened.send(packet)
            time.sleep(gap)


def _open(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: it receives nothing
    try:
        made.bind((interface, 0))
    except OSError:
        made.close()
        raise
    return made
