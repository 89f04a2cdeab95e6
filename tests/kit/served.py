"""A real vmm and vmapp behind a vfio-user socket, and a client that plays a driver on them. No privilege is needed.

The host's TAP is one end of a socketpair; ``Served.wire`` is the other.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.foreign import ForeignGuest
from lab.stack import Stack
from machine.config import make_settings
from machine.counters import indices
from tests.kit.vfioclient import VfioClient
from vmapp.lance.testkit import MAC, RAM_SIZE, RX, Rig
from vmm.foreign.function import BAR0, CONFIG_SPACE
from vmm.vfiouser.listen import listen

__all__ = ["BASE", "ClientRig", "Served", "frame_for", "guest_memory", "received", "served", "until"]

BASE = 0xC000
"""Where the client puts BAR 0."""


def until(true: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def frame_for(mac: bytes, number: int = 0, size: int = 100) -> bytes:
    """A frame for a station; ``number`` makes it unlike others."""
    return mac + MAC + b"\x88\xb5" + number.to_bytes(4, "little") + bytes(size - 18)


def guest_memory(size: int = RAM_SIZE, *, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    """A memfd as a client brings it: its descriptor."""
    fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class ClientRig(Rig):
    """A driver (``vmapp.lance.testkit.Rig``) behind a client: registers by messages, RAM a memfd."""

    def __init__(self, client: VfioClient, style: int = 2) -> None:
        self.style = style
        self.client = client
        self.fd = guest_memory()
        self.ram = memoryview(mmap.mmap(self.fd, RAM_SIZE))
        self.irq = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        client.version()
        client.map(0, RAM_SIZE, self.fd)
        client.set_trigger(self.irq)
        client.write(CONFIG_SPACE, 0x10, BASE.to_bytes(4, "little"))
        client.write(CONFIG_SPACE, 0x04, (0x0005).to_bytes(2, "little"))
        self.write_bcr(20, style)

    def close(self) -> None:
        """Gives memory and descriptors back; the connection is the caller's."""
        self.ram.release()
        for fd in (self.fd, self.irq):
            os.close(fd)

    def inw(self, offset: int) -> int:
        return int.from_bytes(self.client.read(BAR0, offset, 2), "little")

    def outw(self, offset: int, value: int) -> None:
        self.client.write(BAR0, offset, value.to_bytes(2, "little"))

    def csr(self, number: int) -> int:
        self.outw(0x12, number)
        return self.inw(0x10)

    def write_csr(self, number: int, value: int) -> None:
        self.outw(0x12, number)
        self.outw(0x10, value)

    def write_bcr(self, number: int, value: int) -> None:
        self.outw(0x12, number)
        self.outw(0x16, value)

    def interrupted(self, seconds: float = 5.0) -> bool:
        """Whether INTx is signalled in time; takes the signal, and unmasks the line when the handler is done."""
        ready, _, _ = select.select([self.irq], (), (), seconds)
        if ready:
            os.eventfd_read(self.irq)
        return bool(ready)

    def acknowledge(self) -> None:
        """What a driver's handler does: clears the causes in CSR0, leaves INEA on; then the client unmasks."""
        self.write_csr(0, self.csr(0) & 0x7F00 | 0x0040)
        self.client.unmask()

    def start(self) -> None:
        """Brings the chip up with eight RMDs and takes IDON's interrupt."""
        self.lend_all(8)
        self.write_csr(0, 0x0004)
        self.write_init_block(0, 3, 3, bytes(8))
        for register, value in ((4, 0x0915), (0, 0x0001), (0, 0x0042)):  # INIT, then STRT and INEA, as Linux has it
            self.write_csr(register, value)
        assert self.interrupted()
        self.acknowledge()


class Served:
    """The running stack; ``path``: its socket."""

    def __init__(self, stack: Stack, path: Path, wire: socket.socket) -> None:
        self.stack = stack
        self.path = path
        self.wire = wire

    @contextmanager
    def rig(self, style: int = 2) -> Iterator[ClientRig]:
        """A client with its memory mapped and BAR 0 placed, not started."""
        client = VfioClient.connect(self.path)
        rig = ClientRig(client, style)
        try:
            yield rig
        finally:
            client.close()
            rig.close()

    def counter(self, role: str, name: str) -> int:
        return int(self.stack.counters[role][indices(role)[name]])

    def cpu_seconds(self) -> float:
        """What vmm and vmapp have used so far."""
        ticks = 0
        for pid in self.stack.pids.values():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def mappings(self) -> int:
        """How often vmapp has mapped a client's memory."""
        return Path(f"/proc/{self.stack.pids['vmapp']}/maps").read_text().count("memfd:guest")


@contextmanager
def served(folder: Path, **settings: object) -> Iterator[Served]:
    """A vmm and a vmapp that serve their device in ``folder``."""
    chosen = make_settings({"guest": "none", "moderation_us": 0}, settings)
    path = folder / "vfio.sock"
    wire, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    wire.settimeout(5)
    tap.setblocking(False)
    with wire, tap, listen(path) as listener:
        stack = Stack(chosen, -1, tap.fileno(), MAC, None, ForeignGuest(listener, folder))
        with stack:
            yield Served(stack, path, wire)


def received(rig: ClientRig, index: int) -> bytes | None:
    """The frame in RMD ``index``, without FCS; None while the chip owns it."""
    return None if rig.get(RX, index).owned else rig.received(index)[:-4]
