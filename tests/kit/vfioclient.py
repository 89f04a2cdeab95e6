"""A vfio-user client for tests: it sends any message, good or bad, and speaks the good ones by name."""

from __future__ import annotations

import itertools
import json
import os
import socket
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vmm.vfiouser.messages import (
    ACCESS,
    DEVICE_INFO,
    DMA_MAP,
    DMA_UNMAP,
    HEADER,
    IRQ_INFO,
    IRQ_SET,
    MULTI,
    MULTI_WRITE,
    REGION_INFO,
    REGION_IO_FDS,
    VERSION,
    Command,
    DmaFlag,
    HeaderFlag,
    IrqAction,
    IrqData,
    IrqIndex,
    Layout,
    UnmapFlag,
)

__all__ = ["OFFER", "Reply", "VfioClient", "encode", "refused"]

OFFER = {"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": 1 << 20, "pgsizes": 4096, "write_multiple": True}}
"""What a client says of itself, much as QEMU does."""


class Reply(NamedTuple):
    """A message that came back, taken apart."""

    ident: int
    command: int
    flags: int
    errno: int
    payload: bytes


def encode(command: int, payload: bytes = b"", *, ident: int = 0, flags: int = 0, size: int | None = None) -> bytes:
    """One message; ``size`` replaces the true one in the header."""
    true = HEADER.size + len(payload)
    return HEADER.pack(ident, command, true if size is None else size, flags, 0) + payload


def refused(number: int, call: Callable[..., object], *arguments: object, **named: object) -> None:
    """Asserts that the call gets an error reply with this errno."""
    with pytest.raises(OSError) as caught:
        call(*arguments, **named)
    assert caught.value.errno == number


class VfioClient:
    """The client's end of ``connection``. ``pump`` is called before each wait, for a server in the same thread."""

    def __init__(self, connection: socket.socket, pump: Callable[[], object] = lambda: None) -> None:
        connection.settimeout(5)
        self.connection = connection
        self._pump = pump
        self._idents = itertools.count(1)
        self._received = b""

    @classmethod
    def connect(cls, path: Path, pump: Callable[[], object] = lambda: None) -> VfioClient:
        """A new connection to the server at ``path``."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(os.fspath(path))
        except OSError:
            connection.close()
            raise
        return cls(connection, pump)

    def close(self) -> None:
        """Goes away, as a client does that was killed."""
        self.connection.close()
        self._pump()

    # -- messages as such -----------------------------------------------------------------------------------

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Sends ``data`` and descriptors as one piece."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        self.connection.sendmsg([data], rights)

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> int:
        """Sends one message; its id."""
        ident = next(self._idents) & 0xFFFF
        self.send_bytes(encode(command, payload, ident=ident, flags=flags), fds)
        return ident

    def receive(self) -> Reply:
        """The next reply. Raises ConnectionError when the server has closed, TimeoutError when it says nothing."""
        self._pump()
        header = self._exactly(HEADER.size)
        ident, command, size, flags, number = HEADER.unpack_from(header)
        return Reply(ident, command, flags, number, self._exactly(size - HEADER.size))

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            data = self.connection.recv(1 << 16)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self._received += data
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def call(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """A command and the payload of its reply; an error reply is raised as OSError."""
        ident = self.send(command, payload, fds)
        reply = self.receive()
        assert (reply.ident, reply.command) == (ident, command)
        assert reply.flags & HeaderFlag.TYPE == HeaderFlag.REPLY
        if reply.flags & HeaderFlag.ERROR:
            assert reply.payload == b""
            raise OSError(reply.errno, os.strerror(reply.errno))
        return reply.payload

    # -- the good ones, by name -----------------------------------------------------------------------------

    def version(self, major: int = 0, minor: int = 0, data: bytes | None = None) -> tuple[int, int, dict[str, Any]]:
        """Greets the server: the version it answers, and its capabilities."""
        text = json.dumps(OFFER).encode() + b"\0" if data is None else data
        reply = self.call(Command.VERSION, VERSION.pack(major, minor) + text)
        assert reply[-1] == 0
        answered = VERSION.unpack_from(reply)
        return answered[0], answered[1], json.loads(reply[VERSION.size : -1])["capabilities"]

    def device_info(self, argsz: int = DEVICE_INFO.size) -> tuple[Any, ...]:
        """(argsz, flags, regions, interrupt indices)."""
        return _fields(DEVICE_INFO, self.call(Command.DEVICE_GET_INFO, DEVICE_INFO.pack(argsz, 0, 0, 0)))

    def region_info(self, index: int, argsz: int = REGION_INFO.size) -> tuple[Any, ...]:
        """(argsz, flags, index, cap_offset, size, offset)."""
        request = REGION_INFO.pack(argsz, 0, index, 0, 0, 0)
        return _fields(REGION_INFO, self.call(Command.DEVICE_GET_REGION_INFO, request))

    def region_io_fds(self, index: int, argsz: int = REGION_IO_FDS.size) -> tuple[Any, ...]:
        """(argsz, flags, index, count)."""
        request = REGION_IO_FDS.pack(argsz, 0, index, 0)
        return _fields(REGION_IO_FDS, self.call(Command.DEVICE_GET_REGION_IO_FDS, request))

    def irq_info(self, index: int, argsz: int = IRQ_INFO.size) -> tuple[Any, ...]:
        """(argsz, flags, index, count)."""
        return _fields(IRQ_INFO, self.call(Command.DEVICE_GET_IRQ_INFO, IRQ_INFO.pack(argsz, 0, index, 0)))

    def set_irqs(
        self,
        flags: int,
        count: int = 1,
        *,
        index: int = IrqIndex.INTX,
        start: int = 0,
        data: bytes = b"",
        fds: Sequence[int] = (),
    ) -> None:
        """DEVICE_SET_IRQS in any form."""
        request = IRQ_SET.pack(IRQ_SET.size + len(data), flags, index, start, count) + data
        assert self.call(Command.DEVICE_SET_IRQS, request, fds) == b""

    def set_trigger(self, fd: int) -> None:
        """Has INTx signalled by the eventfd ``fd``."""
        self.set_irqs(IrqData.EVENTFD | IrqAction.TRIGGER, fds=[fd])

    def unmask(self) -> None:
        """Says that the guest has had its turn with INTx."""
        self.set_irqs(IrqData.NONE | IrqAction.UNMASK)

    def read(self, region: int, offset: int, count: int) -> bytes:
        """REGION_READ."""
        reply = self.call(Command.REGION_READ, ACCESS.pack(offset, region, count))
        assert ACCESS.unpack_from(reply) == (offset, region, count)
        assert len(reply) == ACCESS.size + count
        return reply[ACCESS.size :]

    def write(self, region: int, offset: int, data: bytes) -> None:
        """REGION_WRITE."""
        reply = self.call(Command.REGION_WRITE, ACCESS.pack(offset, region, len(data)) + data)
        assert reply == ACCESS.pack(offset, region, len(data))

    def post(self, region: int, offset: int, data: bytes) -> None:
        """REGION_WRITE without a reply."""
        payload = ACCESS.pack(offset, region, len(data)) + data
        self.send(Command.REGION_WRITE, payload, flags=HeaderFlag.NO_REPLY)

    def write_multi(self, *writes: tuple[int, int, bytes]) -> int:
        """REGION_WRITE_MULTI of (region, offset, data): how many were done."""
        entries = [MULTI_WRITE.pack(offset, region, len(data), data) for region, offset, data in writes]
        reply = self.call(Command.REGION_WRITE_MULTI, MULTI.pack(len(writes)) + b"".join(entries))
        return int(MULTI.unpack_from(reply)[0])

    def map(
        self, address: int, size: int, fd: int | None, offset: int = 0, flags: int = DmaFlag.READ | DmaFlag.WRITE
    ) -> None:
        """DMA_MAP."""
        request = DMA_MAP.pack(DMA_MAP.size, flags, offset, address, size)
        assert self.call(Command.DMA_MAP, request, [] if fd is None else [fd]) == b""

    def unmap(self, address: int, size: int, flags: int = 0) -> None:
        """DMA_UNMAP."""
        request = DMA_UNMAP.pack(DMA_UNMAP.size, flags, address, size)
        assert self.call(Command.DMA_UNMAP, request) == request

    def unmap_all(self) -> None:
        """DMA_UNMAP of everything."""
        self.unmap(0, 0, UnmapFlag.ALL)

    def reset(self) -> None:
        """DEVICE_RESET."""
        assert self.call(Command.DEVICE_RESET) == b""


def _fields(layout: Layout, payload: bytes) -> tuple[Any, ...]:
    """The reply's fields; those for which argsz left no room read 0."""
    return layout.unpack_from(payload.ljust(layout.size, b"\0"))
