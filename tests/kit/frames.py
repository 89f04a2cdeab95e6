"""Raw Ethernet frames of a test's own, put on an interface and seen there (AF_PACKET)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from netbackend import namespaces
from netbackend.plan import Station

__all__ = ["ETHERTYPE", "PacketSocket", "mac_bytes", "numbered"]

ETHERTYPE: Final = 0x88B5  # IEEE 802: local experiments; every stack ignores it
_RECEIVE_BUFFER: Final = 8 << 20
_SO_RCVBUFFORCE: Final = 33


def mac_bytes(text: str) -> bytes:
    """Six bytes of a MAC written with colons."""
    return bytes.fromhex(text.replace(":", ""))


def numbered(destination: bytes, source: bytes, number: int, size: int = 60) -> bytes:
    """A frame of ``size`` bytes that carries ``number`` as its first four bytes of data."""
    head = destination + source + ETHERTYPE.to_bytes(2, "big") + number.to_bytes(4, "big")
    return head.ljust(size, b"\0")


class PacketSocket:
    """A packet socket on ``interface`` in a station's namespace. Sees frames of ``ethertype``."""

    def __init__(self, station: Station, interface: str, ethertype: int = ETHERTYPE) -> None:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
            made.bind((interface, ethertype))
            return made

        self.socket = namespaces.run(station.namespace, make)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)

    @classmethod
    def of(cls, station: Station, ethertype: int = ETHERTYPE) -> PacketSocket:
        """On the station's own interface."""
        return cls(station, station.interface, ethertype)

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)

    def receive(self, count: int, seconds: float, wanted: Callable[[bytes], bool] = bool) -> list[bytes]:
        """Frames that came in (not those that went out), ``count`` at most, waiting ``seconds`` for all of them."""
        deadline = time.monotonic() + seconds
        frames: list[bytes] = []
        while len(frames) < count and (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, address = self.socket.recvfrom(1 << 16)
            except TimeoutError:
                break
            if address[2] != socket.PACKET_OUTGOING and wanted(frame):
                frames.append(frame)
        return frames

    def __enter__(self) -> PacketSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
