"""Captures in pcapng (IETF draft-ietf-opsawg-pcapng), as Wireshark and tshark read them.

One section: SHB, one IDB per interface (nanosecond times), then an EPB per frame with its direction. All in the
machine's own byte order, which the SHB tells the reader. A frame that was lost because the capture's reader was too
slow is counted where the format has a place for it: the next EPB's epb_dropcount, and an ISB at the end.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Sequence
from typing import Final

from machine.errors import SetupError
from netbackend.capturefile import CaptureFile, open_capture

__all__ = ["INBOUND", "OUTBOUND", "SNAPLEN", "PcapngWriter"]

INBOUND: Final = 1  # epb_flags, bits 0 and 1
OUTBOUND: Final = 2
SNAPLEN: Final = 65535

_SHB: Final = 0x0A0D0D0A
_IDB: Final = 1
_ISB: Final = 5
_EPB: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_LINKTYPE_ETHERNET: Final = 1
_UNKNOWN_LENGTH: Final = 2**64 - 1  # the section ends where the file does

_OPT_END: Final = 0
_OPT_IF_NAME: Final = 2
_OPT_IF_TSRESOL: Final = 9
_OPT_SHB_USERAPPL: Final = 4
_OPT_EPB_FLAGS: Final = 2
_OPT_EPB_DROPCOUNT: Final = 4
_OPT_ISB_IFDROP: Final = 5

_EPB_HEADER: Final = 28  # bytes before the frame
_EPB_TRAILER: Final = 16  # bytes after it: epb_flags, end of options, total length
_FLAGS_OPTION_HEAD: Final = int.from_bytes(
    _OPT_EPB_FLAGS.to_bytes(2, sys.byteorder) + (4).to_bytes(2, sys.byteorder), sys.byteorder
)
_DROPCOUNT: Final = struct.Struct("=HHQ")  # the option: code, length, frames lost; before the trailer's end of options
_LENGTH_AT: Final = 4  # where a block has its length
_BUFFER: Final = 1 << 18  # bytes: some 160 full frames to a write()
_FLUSH_NS: Final = 1_000_000_000
_LAST_SECONDS: Final = 0.5  # how long a reader may take for what is buffered at the end


class PcapngWriter:
    """Writes frames to the capture file ``path``, through a buffer that is never older than a second.

    "Never" needs a caller: each ``write`` looks at the clock, and whoever may have nothing to write for long calls
    ``flush_if_due`` now and then. Failures to write (disk full) raise SetupError, one line, and end the capture; a
    file is then cut back to its last whole block.

    **No call waits for a reader**, but ``close``, for half a second. What a slow one does not take stays in the buffer;
    when that is full, frames are lost, and counted.

    **Every call may be interrupted by another**, from a signal handler. Python runs handlers between two bytecodes, and
    also within a write() that a signal has interrupted, so a half-done call must never be seen by a second one. The
    rule: whoever finds ``_busy`` set touches nothing. Handlers nest, and the interrupted call goes on only when the
    handler has returned, so a flag is enough: it is set before the first look at anything and cleared after the last.
    What the second call was for is not forgotten: the first one flushes as it ends if a flush is due, a frame is
    counted as lost, and ``close`` says that it has not closed.
    """

    def __init__(self, path: str, interfaces: Sequence[str] = ("tap0",), fd: int | None = None) -> None:
        """Makes or truncates the file, or takes over ``fd``, where it is already open (``open_capture``).

        ``interfaces``: names; ``write`` refers to them by index.
        """
        self._path = path
        self._lost = [0] * len(interfaces)
        self._unsaid = [0] * len(interfaces)  # lost since the last frame that was not
        self._buffer = bytearray(_BUFFER)
        self._bytes = memoryview(self._buffer)
        self._words = self._bytes.cast("I")  # every block begins at a multiple of 4
        self._used = 0
        self._sent = 0  # of these, handed to the kernel
        self._busy = False
        self._flushed_at = time.monotonic_ns()
        self._fd = open_capture(path) if fd is None else fd
        self._file = CaptureFile(self._fd)
        self._append(_section_header())
        for name in interfaces:
            self._append(_interface_description(name))
        self.flush()

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the capture has ended, by ``close`` or by a failure."""
        return self._fd < 0

    @property
    def lost(self) -> int:
        """Frames that are not in the capture, because its reader was too slow."""
        return sum(self._lost)

    def write(
        self, frame: bytes | bytearray | memoryview, direction: int, interface: int = 0, timestamp: int | None = None
    ) -> bool:
        """Adds ``frame`` (Ethernet, no FCS), cut to SNAPLEN bytes; ``timestamp``: ns since 1970, None for now.

        ``direction``: INBOUND or OUTBOUND, 0 if unknown. False if the frame was lost. Raises ValueError for an
        interface there is none of.
        """
        if not 0 <= interface < len(self._lost):
            raise ValueError(f"interface {interface} of {len(self._lost)}")
        if self._busy:
            self._lose(interface)
            return False
        self._busy = True
        try:
            if self._fd < 0:
                raise SetupError(self._closed())
            written = self._add(frame, direction, interface, time.time_ns() if timestamp is None else timestamp)
            if time.monotonic_ns() - self._flushed_at >= _FLUSH_NS:
                self._drain()
        finally:
            self._busy = False
        return written

    def _add(self, frame: bytes | bytearray | memoryview, direction: int, interface: int, when: int) -> bool:
        original = len(frame)
        length = original if original <= SNAPLEN else SNAPLEN
        padded = (length + 3) & ~3
        total = _EPB_HEADER + padded + _EPB_TRAILER
        lost = self._unsaid[interface]
        if lost:
            total += _DROPCOUNT.size
        if self._used + total > _BUFFER and not self._make_room(total):
            self._lose(interface)
            return False
        start = self._used
        words = self._words
        at = start >> 2
        words[at] = _EPB
        words[at + 1] = total
        words[at + 2] = interface
        words[at + 3] = (when >> 32) & 0xFFFFFFFF
        words[at + 4] = when & 0xFFFFFFFF
        words[at + 5] = length
        words[at + 6] = original
        data = start + _EPB_HEADER
        if padded:
            words[(data + padded >> 2) - 1] = 0  # padding first, the frame's last bytes over it
        self._bytes[data : data + length] = frame if length == original else frame[:length]
        at = (data + padded) >> 2
        words[at] = _FLAGS_OPTION_HEAD
        words[at + 1] = direction & 3
        at += 2
        if lost:
            _DROPCOUNT.pack_into(self._buffer, at << 2, _OPT_EPB_DROPCOUNT, 8, lost)
            self._unsaid[interface] = 0
            at += _DROPCOUNT.size >> 2
        words[at] = _OPT_END
        words[at + 1] = total
        self._used = start + total
        return True

    def _lose(self, interface: int) -> None:
        self._lost[interface] += 1
        self._unsaid[interface] += 1

    def _make_room(self, total: int) -> bool:
        """Hands over what the reader takes, and moves the rest to the front if ``total`` more bytes fit then."""
        self._drain()
        start = self._sent & ~3  # blocks stay at multiples of 4
        left = self._used - start
        if left + total > _BUFFER:
            return False
        self._bytes[:left] = self._bytes[start : self._used]
        self._sent -= start
        self._used = left
        return True

    def flush_if_due(self) -> None:
        """Flushes if the last flush is a second ago."""
        if time.monotonic_ns() - self._flushed_at >= _FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Hands everything buffered to the kernel, as far as a stream's reader takes it."""
        if self._busy:
            return
        self._busy = True
        try:
            if self._fd < 0:
                raise SetupError(self._closed())
            self._drain()
        finally:
            self._busy = False

    def _drain(self) -> None:
        self._flushed_at = time.monotonic_ns()
        try:
            while self._sent < self._used:
                done = self._file.write(self._bytes[self._sent : self._used])
                if not done:
                    return
                self._sent += done
        except OSError as error:
            self._file.take_back(self._sent - self._last_block())
            self._end()
            raise SetupError(f"capture to {self._path} ended: {error.strerror}") from None
        self._used = self._sent = 0

    def _last_block(self) -> int:
        """Where the last block ends that was handed over whole. For files, whose buffer always begins with a block."""
        at = 0
        while at < self._sent and at + self._words[at + _LENGTH_AT >> 2] <= self._sent:
            at += self._words[at + _LENGTH_AT >> 2]
        return at

    def close(self) -> bool:
        """Flushes and closes; harmless the second time. False if it was called in the middle of another call."""
        if self._busy:
            return False
        self._busy = True
        try:
            if self._fd >= 0:
                self._finish()
        finally:
            self._busy = False
        return True

    def _finish(self) -> None:
        deadline = time.monotonic() + _LAST_SECONDS
        self._drain()
        statistics = b"".join(_interface_statistics(n, lost) for n, lost in enumerate(self._lost) if lost)
        if self._make_room(len(statistics)):
            self._append(statistics)
        while self._used and (left := deadline - time.monotonic()) > 0 and self._file.wait(left):
            self._drain()
        self._end()

    def _closed(self) -> str:
        return f"capture file {self._path} is closed"

    def _end(self) -> None:
        self._file.close()
        self._fd = -1
        self._used = self._sent = 0

    def _append(self, block: bytes) -> None:
        self._bytes[self._used : self._used + len(block)] = block
        self._used += len(block)


def _u16(value: int) -> bytes:
    return value.to_bytes(2, sys.byteorder)


def _u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def _block(kind: int, body: bytes) -> bytes:
    """A block: type, total length, body (a multiple of 4 bytes), total length again."""
    total = _u32(12 + len(body))
    return _u32(kind) + total + body + total


def _option(code: int, value: bytes) -> bytes:
    return _u16(code) + _u16(len(value)) + value + bytes(-len(value) % 4)


def _section_header() -> bytes:
    version = _u16(1) + _u16(0)
    length = _UNKNOWN_LENGTH.to_bytes(8, sys.byteorder)
    options = _option(_OPT_SHB_USERAPPL, b"worldswitch") + _option(_OPT_END, b"")
    return _block(_SHB, _u32(_BYTE_ORDER_MAGIC) + version + length + options)


def _interface_description(name: str) -> bytes:
    options = _option(_OPT_IF_NAME, name.encode()) + _option(_OPT_IF_TSRESOL, bytes((9,))) + _option(_OPT_END, b"")
    return _block(_IDB, _u16(_LINKTYPE_ETHERNET) + _u16(0) + _u32(SNAPLEN) + options)


def _interface_statistics(interface: int, lost: int) -> bytes:
    """What is known at the end: how many frames of the interface are missing."""
    when = time.time_ns()
    options = _option(_OPT_ISB_IFDROP, lost.to_bytes(8, sys.byteorder)) + _option(_OPT_END, b"")
    return _block(_ISB, _u32(interface) + _u32(when >> 32) + _u32(when & 0xFFFFFFFF) + options)
