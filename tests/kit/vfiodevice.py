"""A device of plain memory behind a vfio-user server, in the same thread as its client."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from tests.kit.vfioclient import VfioClient
from vmm.vfiouser.device import Region
from vmm.vfiouser.listen import listen
from vmm.vfiouser.server import Server

__all__ = ["MemoryDevice", "ServedDevice", "open_descriptors"]


def open_descriptors() -> set[int]:
    """The descriptors that this process has open now."""
    found = {int(name) for name in os.listdir("/proc/self/fd")}
    return {fd for fd in found if os.path.exists(f"/proc/self/fd/{fd}")}  # without the one that listed them


class MemoryDevice:
    """Obeys ``vmm.vfiouser.device.Device``: regions keep what is written; everything asked of it is noted.

    ``failure``, an errno, is raised by the next call. ``early`` has writes finish before they are done.
    """

    def __init__(self) -> None:
        self.regions = {
            0: Region(32),
            2: Region(16, writable=False),
            3: Region(16, readable=False),
            5: Region(1 << 16),
            7: Region(256),
        }
        self.memory = {index: bytearray(region.size) for index, region in self.regions.items()}
        self.windows: list[tuple[int, int, int | None, int, bool]] = []
        self.resets = 0
        self.unmasked = 0
        self.writes = 0
        self.failure = 0
        self.early = False

    def _fail(self) -> None:
        number, self.failure = self.failure, 0
        if number:
            raise OSError(number, os.strerror(number))

    def read(self, region: int, offset: int, count: int) -> bytes:
        self._fail()
        assert self.regions[region].readable
        assert 0 < count <= len(self.memory[region]) - offset
        return bytes(self.memory[region][offset : offset + count])

    def write(self, region: int, offset: int, data: memoryview, finish: Callable[[], None]) -> None:
        if self.early:
            finish()
            finish()  # a second time must be harmless
        self._fail()
        assert self.regions[region].writable
        assert data.format == "B"
        assert 0 < len(data) <= len(self.memory[region]) - offset
        self.memory[region][offset : offset + len(data)] = data
        self.writes += 1

    def map_dma(self, address: int, size: int, fd: int | None, offset: int, *, writable: bool) -> None:
        self._fail()
        assert size > 0
        inode = None if fd is None else os.fstat(fd).st_ino
        self.windows.append((address, size, inode, offset, writable))

    def unmap_dma(self, address: int, size: int) -> int:
        self._fail()
        kept = [w for w in self.windows if w[0] < address or w[0] + w[1] > address + size]
        gone = sum(w[1] for w in self.windows) - sum(w[1] for w in kept)
        self.windows = kept
        return gone

    def unmap_all(self) -> int:
        self._fail()
        gone = sum(w[1] for w in self.windows)
        self.windows = []
        return gone

    def reset(self) -> None:
        self._fail()
        self.resets += 1
        for memory in self.memory.values():
            memory[:] = bytes(len(memory))

    def interrupt_unmasked(self) -> None:
        self.unmasked += 1


class ServedDevice:
    """A memory device, its server at ``path``, and the server's log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.device = MemoryDevice()
        self.log: list[str] = []
        self._clients: list[VfioClient] = []
        self.server = Server(listen(path), self.device, self.log.append)

    def pump(self) -> int:
        """Has the server do all there is to do; how many steps that took."""
        steps = 0
        while True:
            if self.server.step():
                steps += 1
            elif not select.select(self.server.descriptors, [], [], 0)[0]:
                return steps

    def connect(self, *, pump: bool = True) -> VfioClient:
        """A client that the server has accepted, or refused, and that has not said anything; or that still waits."""
        client = VfioClient.connect(self.path, self.pump)
        self._clients = [each for each in self._clients if each.connection.fileno() >= 0]
        self._clients.append(client)
        if pump:
            self.pump()
        return client

    def greet(self) -> VfioClient:
        """A client that has exchanged versions."""
        client = self.connect()
        client.version()
        return client

    def close(self) -> None:
        """Ends everything, clients included."""
        for client in self._clients:
            client.connection.close()
        self.server.close()
        self.path.unlink(missing_ok=True)
