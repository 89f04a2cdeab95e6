"""One client's connection: takes messages, carries them out, answers.

Region accesses are the traps of a guest behind the client; they cost one recvmsg(), one send() and as little as
possible between. Everything else is in ``vmm.vfiouser.commands``. The specification's rules for all commands:

- An error reply is a header alone, with an errno. ``NO_REPLY`` asks for no reply at all, errors included.
- Messages are carried out in the order in which they come, one at a time.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from vmm.vfiouser.commands import Commands
from vmm.vfiouser.device import Device, Region
from vmm.vfiouser.interrupts import IntxLine
from vmm.vfiouser.messages import (
    ACCESS,
    HEADER,
    MAX_DATA,
    MESSAGES,
    MULTI,
    MULTI_WRITE,
    REGIONS,
    Command,
    HeaderFlag,
    Layout,
)
from vmm.vfiouser.stream import Disconnected, Stream
from vmm.vfiouser.version import negotiate

__all__ = ["Session"]

# The header and the access in one unpacking, which costs no more than four indexed loads.
_ACCESS_MESSAGE: Final = Layout(**HEADER.fields, **ACCESS.fields)
_ACCESS_BYTES: Final = _ACCESS_MESSAGE.size
_READ: Final = int(Command.REGION_READ)
_WRITE: Final = int(Command.REGION_WRITE)
_REPLY: Final = int(HeaderFlag.REPLY)
_ERROR_REPLY: Final = int(HeaderFlag.REPLY | HeaderFlag.ERROR)
_TYPE: Final = int(HeaderFlag.TYPE)
_NO_REPLY: Final = int(HeaderFlag.NO_REPLY)
_NO_REGION: Final = Region(0, readable=False, writable=False)
_VITAL: Final = (int(Command.DMA_MAP), int(Command.DEVICE_SET_IRQS))  # refused, they leave a guest with a dead card
_MAX_LINES: Final = 16  # of the log, for refused messages of one connection


def _nothing() -> None:
    """The ``finish`` of a write that is not the last of its message."""


class Session:
    """A client behind ``connection``, a stream socket that becomes non-blocking and stays the caller's to close.

    ``log`` takes one line; ``trouble`` one that says why the card cannot work for this client.
    """

    def __init__(
        self,
        connection: socket.socket,
        device: Device,
        interrupt: IntxLine,
        log: Callable[[str], None],
        trouble: Callable[[str], object],
    ) -> None:
        self._stream = Stream(connection)
        self._send = connection.send
        self._device = device
        self._log = log
        self._trouble = trouble
        self._logged: set[tuple[str, int]] = set()
        self._commands = Commands(device, interrupt)
        self._handlers = self._commands.table
        self._handlers[Command.REGION_WRITE_MULTI] = self._write_multi
        regions = [device.regions.get(index, _NO_REGION) for index in range(REGIONS)]
        self._readable = [region.size if region.readable else -1 for region in regions]  # one past the last byte
        self._writable = [region.size if region.writable else -1 for region in regions]
        self._input = memoryview(self._stream.buffer)
        self._output = memoryview(bytearray(_ACCESS_BYTES + MAX_DATA))
        self._write_reply = self._output[:_ACCESS_BYTES]
        self._no_reply = 0
        self._finished = False
        self._broken = ""  # why nothing can be sent any more
        self._greeted = False

    @property
    def greeted(self) -> bool:
        """Whether the client has agreed on a version, and so speaks the protocol."""
        return self._greeted

    @property
    def pending(self) -> bool:
        """Whether a message was received that has not been carried out; poll() does not see it."""
        return self._stream.pending

    def step(self) -> bool:
        """Carries out the next message; false if none is there as a whole. Never blocks.

        Raises Disconnected, after a line in the log, when the connection is of no more use.
        """
        try:
            if not self._stream.next():
                return False
            self._carry_out()
            if self._broken:
                raise Disconnected(self._broken)
        except Disconnected as reason:
            self._log(f"vfio-user: disconnected: {reason}")
            raise
        return True

    def close(self) -> None:
        """Closes the client's descriptors, but for the interrupt line's. The session cannot be used after it."""
        self._stream.close()
        self._commands.close()

    def _carry_out(self) -> None:
        start = self._stream.start
        fields = _ACCESS_MESSAGE.unpack_from(self._input, start)
        ident, command, size, flags, _, offset, region, count = fields
        self._no_reply = flags & _NO_REPLY
        self._finished = False
        if flags & _TYPE or not self._greeted:
            self._first(ident, command, size, flags)
            return
        try:
            if command == _READ:
                self._read(ident, size, offset, region, count)
            elif command == _WRITE:
                self._write(ident, size, offset, region, count)
            else:
                self._other(ident, command, self._input[start + HEADER.size : start + size])
        except OSError as error:
            self._refuse(ident, command, error)

    def _read(self, ident: int, size: int, offset: int, region: int, count: int) -> None:
        if size < _ACCESS_BYTES or region >= REGIONS or offset + count > self._readable[region] or count > MAX_DATA:
            raise OSError(errno.EINVAL, f"{count} bytes from {offset:#x} of region {region}")
        output = self._output
        end = _ACCESS_BYTES + count
        if count:
            output[_ACCESS_BYTES:end] = self._device.read(region, offset, count)
        if not self._no_reply:
            _ACCESS_MESSAGE.pack_into(output, 0, ident, _READ, end, _REPLY, 0, offset, region, count)
            self._transmit(output[:end])

    def _write(self, ident: int, size: int, offset: int, region: int, count: int) -> None:
        if size != _ACCESS_BYTES + count or region >= REGIONS or offset + count > self._writable[region]:
            raise OSError(errno.EINVAL, f"{count} bytes to {offset:#x} of region {region}")
        _ACCESS_MESSAGE.pack_into(self._output, 0, ident, _WRITE, _ACCESS_BYTES, _REPLY, 0, offset, region, count)
        if count:
            start = self._stream.start + _ACCESS_BYTES
            self._device.write(region, offset, self._input[start : start + count], self._finish)
        if not self._finished:
            self._finish()

    def _finish(self) -> None:
        """Sends the reply to the write that is being carried out; a second call does nothing."""
        if not self._finished:
            self._finished = True
            if not self._no_reply:
                self._transmit(self._write_reply)

    def _write_multi(self, payload: memoryview, _fds: list[int]) -> bytes:
        """Several posted writes in one message; one that is refused ends it, and those before it stay done."""
        (writes,) = MULTI.unpack_from(payload)
        if len(payload) != MULTI.size + writes * MULTI_WRITE.size:
            raise OSError(errno.EINVAL, f"{writes} writes in {len(payload)} bytes")
        for start in range(MULTI.size, len(payload), MULTI_WRITE.size):
            offset, region, count = ACCESS.unpack_from(payload, start)
            room = MULTI_WRITE.size - ACCESS.size
            if count > room or region >= REGIONS or offset + count > self._writable[region]:
                raise OSError(errno.EINVAL, f"{count} bytes to {offset:#x} of region {region}")
            if count:
                data = payload[start + ACCESS.size : start + ACCESS.size + count]
                self._device.write(region, offset, data, _nothing)
        return MULTI.pack(writes)

    def _first(self, ident: int, command: int, size: int, flags: int) -> None:
        """Anything but a command after VERSION: VERSION itself, or a client that does not speak the protocol."""
        if flags & _TYPE:
            raise Disconnected(f"message of type {flags & _TYPE}, where only commands are awaited")
        if command != Command.VERSION:
            raise Disconnected(f"{_name(command)} before {Command.VERSION.name}")
        start = self._stream.start
        try:
            if size < HEADER.size + MESSAGES[Command.VERSION].request.size:
                raise OSError(errno.EINVAL, "no version")
            payload = negotiate(self._input[start + HEADER.size : start + size])
        except OSError as error:
            self._refuse(ident, command, error)
            raise Disconnected(f"no common version: {error.strerror}") from error
        self._greeted = True
        self._answer(ident, command, payload)

    def _other(self, ident: int, command: int, payload: memoryview) -> None:
        handler = self._handlers.get(command)
        if handler is None:
            # What the protocol has and this server has not, or what the protocol does not have at all.
            known = command in Command.__members__.values() and command != Command.VERSION
            raise OSError(errno.ENOTSUP if known else errno.EINVAL, "not offered")
        message = MESSAGES[command]
        descriptors = self._stream.descriptors
        if len(payload) < message.request.size or 0 < message.descriptors < len(descriptors):
            raise OSError(errno.EINVAL, f"{len(payload)} bytes, {len(descriptors)} descriptors")
        self._answer(ident, command, handler(payload, descriptors))

    def _answer(self, ident: int, command: int, payload: bytes) -> None:
        if not self._no_reply:
            self._transmit(HEADER.pack(ident, command, HEADER.size + len(payload), _REPLY, 0) + payload)

    def _refuse(self, ident: int, command: int, error: OSError) -> None:
        """An error reply, unless the reply is out already or not wanted; the first of each kind is logged."""
        number = error.errno or errno.EIO
        kind = (_name(command), number)
        if kind not in self._logged and len(self._logged) < _MAX_LINES:
            self._logged.add(kind)
            self._log(f"vfio-user: {kind[0]} refused: {os.strerror(number)} ({error.strerror})")
        if command in _VITAL:
            self._trouble(f"{kind[0]} refused: {error.strerror}")
        if not self._no_reply and not self._finished:
            self._transmit(HEADER.pack(ident, command, HEADER.size, _ERROR_REPLY, number))

    def _transmit(self, message: bytes | memoryview) -> None:
        """Sends without waiting. What fails is told by ``step()``: this may be called from within the device."""
        try:
            if self._send(message) != len(message):
                self._broken = "the client does not read its replies"
        except BlockingIOError:
            self._broken = "the client does not read its replies"
        except OSError as error:
            self._broken = f"the client is gone ({os.strerror(error.errno or 0)})"


def _name(command: int) -> str:
    try:
        return Command(command).name
    except ValueError:
        return "unknown command"
