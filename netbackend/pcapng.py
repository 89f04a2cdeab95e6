"""Capture files in pcapng (IETF draft-ietf-opsawg-pcapng), as Wireshark and tshark read them.

One section: SHB, one IDB per interface (nanosecond times), then an EPB per frame with its direction. All in the
machine's own byte order, which the SHB tells the reader.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from machine.errors import SetupError

__all__ = ["INBOUND", "OUTBOUND", "SNAPLEN", "PcapngWriter", "open_capture"]

INBOUND: Final = 1  # epb_flags, bits 0 and 1
OUTBOUND: Final = 2
SNAPLEN: Final = 65535

_SHB: Final = 0x0A0D0D0A
_IDB: Final = 1
_EPB: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_LINKTYPE_ETHERNET: Final = 1
_UNKNOWN_LENGTH: Final = 2**64 - 1  # the section ends where the file does

_OPT_END: Final = 0
_OPT_IF_NAME: Final = 2
_OPT_IF_TSRESOL: Final = 9
_OPT_SHB_USERAPPL: Final = 4
_OPT_EPB_FLAGS: Final = 2

_EPB_HEADER: Final = 28  # bytes before the frame
_EPB_TRAILER: Final = 16  # bytes after it: epb_flags, end of options, total length
_FLAGS_OPTION_HEAD: Final = int.from_bytes(
    _OPT_EPB_FLAGS.to_bytes(2, sys.byteorder) + (4).to_bytes(2, sys.byteorder), sys.byteorder
)
_LARGEST_BLOCK: Final = _EPB_HEADER + SNAPLEN + 3 + _EPB_TRAILER
_BUFFER: Final = 1 << 18  # bytes: some 160 full frames to a write()
_FLUSH_NS: Final = 1_000_000_000


def open_capture(path: str) -> int:
    """Makes or truncates capture file ``path``; its descriptor, blocking and close-on-exec.

    A FIFO needs a reader already. SetupError, one line, if it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o644)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SetupError(f"cannot write capture file {path}: {reason}; choose another path") from None
    os.set_blocking(fd, True)
    return fd


class PcapngWriter:
    """Writes frames to the capture file ``path``, through a buffer that is never older than a second.

    "Never" needs a caller: each ``write`` looks at the clock, and whoever may have nothing to write for long calls
    ``flush_if_due`` now and then. Failures to write (disk full) raise SetupError, one line, and end the capture.
    """

    def __init__(self, path: str, interfaces: Sequence[str] = ("tap0",), fd: int | None = None) -> None:
        """Makes or truncates the file, or takes over ``fd``, where it is already open (``open_capture``).

        ``interfaces``: names; ``write`` refers to them by index.
        """
        self._path = path
        self._interfaces = len(interfaces)
        self._buffer = bytearray(_BUFFER)
        self._bytes = memoryview(self._buffer)
        self._words = self._bytes.cast("I")  # every block begins at a multiple of 4
        self._used = 0
        self._flushed_at = time.monotonic_ns()
        self._fd = open_capture(path) if fd is None else fd
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

    def write(
        self, frame: bytes | bytearray | memoryview, direction: int, interface: int = 0, timestamp: int | None = None
    ) -> None:
        """Adds ``frame`` (Ethernet, no FCS), cut to SNAPLEN bytes; ``timestamp``: ns since 1970, None for now.

        ``direction``: INBOUND or OUTBOUND, 0 if unknown. Raises ValueError for an interface there is none of.
        """
        if not 0 <= interface < self._interfaces:
            raise ValueError(f"interface {interface} of {self._interfaces}")
        if self._fd < 0:
            raise SetupError(self._closed())
        when = time.time_ns() if timestamp is None else timestamp
        original = len(frame)
        length = original if original <= SNAPLEN else SNAPLEN
        padded = (length + 3) & ~3
        total = _EPB_HEADER + padded + _EPB_TRAILER
        if self._used + total > _BUFFER:
            self.flush()
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
        words[at + 2] = _OPT_END
        words[at + 3] = total
        self._used = start + total
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Flushes if the last flush is a second ago."""
        if time.monotonic_ns() - self._flushed_at >= _FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Hands everything buffered to the kernel."""
        if self._fd < 0:
            raise SetupError(self._closed())
        self._flushed_at = time.monotonic_ns()
        done = 0
        try:
            while done < self._used:
                done += os.write(self._fd, self._bytes[done : self._used])
        except OSError as error:
            self._end()
            raise SetupError(f"capture to {self._path} ended: {error.strerror}") from None
        self._used = 0

    def close(self) -> None:
        """Flushes and closes; harmless the second time."""
        if self._fd >= 0:
            self.flush()
            self._end()

    def _closed(self) -> str:
        return f"capture file {self._path} is closed"

    def _end(self) -> None:
        os.close(self._fd)
        self._fd = -1
        self._used = 0

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
