"""The receiving half of a connection: whole messages out of a byte stream, each with the descriptors it brought."""

from __future__ import annotations

import os
import socket
from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final

from machine.errors import ControlError
from vmm.vfiouser.messages import HEADER, MAX_DESCRIPTORS, MAX_MESSAGE

__all__ = ["Disconnected", "Stream", "close_all"]

_BUFFER: Final = 4 * MAX_MESSAGE  # room for what a client sends without waiting; an incomplete message always fits
_SLACK: Final = 64  # a fixed layout may be read at the start of any message, however short that is
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_DESCRIPTORS * array("i").itemsize)
_FLAGS: Final = int(socket.MSG_CMSG_CLOEXEC)
_SIZE_OFFSET: Final = 4


class Disconnected(ControlError):  # noqa: N818 (it says what the client is)
    """The client is gone, or what it sends can no longer be told apart into messages."""


def close_all(descriptors: Iterable[int]) -> None:
    """Closes them; that one refers to a file whose closing fails is its owner's business."""
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError:
            pass


class Stream:
    """Messages from a non-blocking stream socket.

    After ``next()`` has answered true, the message is ``buffer[start:stop]`` and ``descriptors`` are what came with
    it. They are the caller's: it removes those that it keeps, and ``next()`` closes the others.
    """

    __slots__ = ("_end", "_groups", "_recvmsg_into", "_view", "_whole", "buffer", "descriptors", "start", "stop")

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._recvmsg_into = connection.recvmsg_into
        self.buffer = bytearray(_BUFFER + _SLACK)
        self._view = memoryview(self.buffer)[:_BUFFER]
        self._whole = [self._view]
        self._end = 0  # of what was received
        self._groups: deque[tuple[int, list[int]]] = deque()  # (an offset in the message it belongs to, descriptors)
        self.start = self.stop = 0
        self.descriptors: list[int] = []

    def next(self) -> bool:
        """Takes the next message; false if it is not there as a whole. Makes at most one system call.

        Raises Disconnected at the end of the stream, and if a header's size cannot be right.
        """
        if self.descriptors:
            self.release()
        start = self.stop
        size = self._size(start)
        if size == 0:
            if not self._receive(start):
                return False
            start = 0
            size = self._size(0)
            if size == 0:
                return False
        self.start = start
        self.stop = stop = start + size
        while self._groups and self._groups[0][0] < stop:
            self.descriptors += self._groups.popleft()[1]
        return True

    @property
    def pending(self) -> bool:
        """Whether ``next()`` has a message, or a reason to end, without receiving; poll() does not see it."""
        try:
            return self._end > self.stop and self._size(self.stop) != 0
        except Disconnected:
            return True  # it is for next() to say so: whoever asks here does not expect it

    def release(self) -> None:
        """Closes the descriptors of the present message that were not taken."""
        close_all(self.descriptors)
        self.descriptors.clear()

    def close(self) -> None:
        """Closes every descriptor that was received and not taken; the socket is the caller's."""
        self.release()
        while self._groups:
            close_all(self._groups.popleft()[1])

    def _size(self, start: int) -> int:
        """The size in bytes of the message at ``start`` if all of it is there, else 0."""
        have = self._end - start
        if have < HEADER.size:
            return 0
        size = int.from_bytes(self.buffer[start + _SIZE_OFFSET : start + _SIZE_OFFSET + 4], "little")
        if not HEADER.size <= size <= MAX_MESSAGE:
            raise Disconnected(f"a message of {size} bytes, outside {HEADER.size} to {MAX_MESSAGE}")
        return size if size <= have else 0

    def _receive(self, start: int) -> bool:
        """One recvmsg() behind the incomplete message at ``start``, which moves to the buffer's beginning."""
        have = self._end - start
        if start and have:
            self.buffer[:have] = self.buffer[start : self._end]
        if self._groups:
            self._groups = deque((0, fds) for _, fds in self._groups)  # all of them belong to the incomplete message
        self.stop, self._end = 0, have
        try:
            room = self._whole if have == 0 else [self._view[have:]]
            count, ancillary, flags, _ = self._recvmsg_into(room, _ANCILLARY, _FLAGS)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Disconnected(f"the client is gone ({os.strerror(error.errno or 0)})") from error
        self._end = have + count
        if ancillary or flags & socket.MSG_CTRUNC:
            self._keep(ancillary, flags)
        if count == 0:
            raise Disconnected("the client has closed the connection")
        return True

    def _keep(self, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        """Notes descriptors for the message that ends what was read.

        The kernel ends a read behind the piece of the stream that brought descriptors (``unix_stream_read_generic`` in
        net/unix/af_unix.c), and clients send a message with its descriptors as one piece.
        """
        fds = array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        self._groups.append((self._end - 1, fds.tolist()))
        # An incomplete message and the one behind it may each bring their share; no more can be waiting.
        if flags & socket.MSG_CTRUNC or sum(len(group) for _, group in self._groups) > 2 * MAX_DESCRIPTORS:
            raise Disconnected(f"more than {MAX_DESCRIPTORS} descriptors, or more than this process may open")
