"""A vfio-user client that sends anything, and what must hold of the server whatever it sent."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.kit.vfioclient import OFFER, VfioClient
from tests.kit.vfiodevice import ServedDevice, open_descriptors
from vmm.vfiouser.messages import (
    ACCESS,
    DMA_MAP,
    DMA_UNMAP,
    HEADER,
    IRQ_SET,
    MAX_DATA,
    MESSAGES,
    MULTI,
    MULTI_WRITE,
    VERSION,
    Command,
    HeaderFlag,
)

__all__ = ["KINDS", "Attack", "served_device", "well_formed"]


def _end_of_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _memfd() -> int:
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 1 << 16)
    return fd


KINDS: dict[str, Callable[[], int]] = {
    "eventfd": lambda: os.eventfd(0),
    "semaphore": lambda: os.eventfd(3, os.EFD_SEMAPHORE),
    "memfd": _memfd,
    "pipe": _end_of_pipe,
}
"""Descriptors to send along, by name."""


def served_device() -> ServedDevice:
    """A served device in a folder of its own."""
    return ServedDevice(Path(tempfile.mkdtemp(prefix="worldswitch-vfio-")) / "socket")


def well_formed() -> list[tuple[bytes, list[str]]]:
    """(payload with header, kinds of descriptors) of one good message for each command, VERSION first."""
    fixed = {
        Command.VERSION: VERSION.pack(0, 0) + json.dumps(OFFER).encode() + b"\0",
        Command.DMA_MAP: DMA_MAP.pack(DMA_MAP.size, 3, 0, 0x10000, 0x4000),
        Command.DMA_UNMAP: DMA_UNMAP.pack(DMA_UNMAP.size, 0, 0x10000, 0x4000),
        Command.DEVICE_SET_IRQS: IRQ_SET.pack(IRQ_SET.size, 36, 0, 0, 1),
        Command.REGION_READ: ACCESS.pack(0x10, 0, 2),
        Command.REGION_WRITE: ACCESS.pack(0x12, 0, 2) + b"\x58\0",
        Command.REGION_WRITE_MULTI: MULTI.pack(1) + MULTI_WRITE.pack(0x12, 0, 2, b"\x58\0"),
    }
    kinds = {Command.DMA_MAP: ["memfd"], Command.DEVICE_SET_IRQS: ["eventfd"]}
    found = []
    for command in sorted(MESSAGES):
        layout = MESSAGES[command].request
        plain = layout.size.to_bytes(4, "little").ljust(layout.size, b"\0") if layout.size else b""
        payload = fixed.get(command, plain)
        header = HEADER.pack(command, command, HEADER.size + len(payload), 0, 0)
        found.append((header + payload, kinds.get(command, [])))
    return found


class Attack:
    """One connection to ``served``. Any exception out of the server, or a malformed reply, is a failure."""

    def __init__(self, served: ServedDevice) -> None:
        self._before = open_descriptors()
        self._served = served
        self._client = served.connect()
        self._client.connection.setblocking(False)
        self._received = bytearray()
        self.replies = 0

    def send(self, data: bytes, kinds: Sequence[str] = ()) -> None:
        """Sends a piece of the stream, as much of it as the socket takes, with new descriptors of these kinds."""
        fds = [KINDS[kind]() for kind in kinds]
        try:
            if data:
                self._client.send_bytes(data, fds)
        except (BlockingIOError, ConnectionError):
            pass
        for fd in fds:
            os.close(fd)

    def pump(self) -> None:
        """Has the server do what there is to do, and checks its replies."""
        self._served.pump()
        try:
            while data := self._client.connection.recv(1 << 16):
                self._received += data
        except (BlockingIOError, ConnectionError):
            pass
        while len(self._received) >= HEADER.size:
            ident, _, size, flags, number = HEADER.unpack_from(self._received)
            assert 0 <= ident <= 0xFFFF
            assert HEADER.size <= size <= HEADER.size + ACCESS.size + MAX_DATA
            assert flags in (HeaderFlag.REPLY, HeaderFlag.REPLY | HeaderFlag.ERROR)
            assert (size == HEADER.size and number > 0) if flags & HeaderFlag.ERROR else number == 0
            assert len(self._received) >= size  # a reply is sent as a whole
            del self._received[:size]
            self.replies += 1

    def finish(self) -> None:
        """The client goes; nothing of it stays, and the next one is served."""
        served = self._served
        self._client.close()
        served.pump()
        assert not served.server.connected
        assert served.device.windows == []
        assert not served.server.interrupt.masked
        assert open_descriptors() == self._before
        successor = VfioClient.connect(served.path, served.pump)
        successor.version()
        successor.write(0, 0, b"next")
        assert successor.read(0, 0, 4) == b"next"
        successor.close()
        assert open_descriptors() == self._before
        served.log.clear()
