"""The transmitter's far end: what happens to a frame once its buffers are known.

Padding, the driver's own FCS, loopback, a missing cable. The fast path of ``transmit`` needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

from machine.counters import VMAPP, indices
from machine.lance.bits import (
    CSR0_BABL,
    CSR0_CERR,
    CSR4_APAD_XMT,
    CSR4_TXSTRT,
    CSR15_DXMTFCS,
    CSR15_FCOLL,
    CSR15_INTL,
    CSR15_LOOP,
    TMD1_ADD_FCS,
    TMD2_LCAR,
    TMD2_RTRY,
)
from machine.lance.state import CSR, LINK_UP

from .events import Events
from .port import FramePort

__all__ = ["LONGEST", "MAX_FRAME", "NEVER", "SHORTEST", "Outlet"]

MAX_FRAME: Final = 65536  # bytes; a longer chain is given up
SHORTEST: Final = 60  # what APAD_XMT pads to, without FCS
LONGEST: Final = 1514  # without FCS; more is babble
_MOST_PARTS: Final = 512  # that are sent as they lie; writev() takes 1024, and a TMD's buffer may be in several windows
NEVER: Final = (0, 1)  # status & 0 == 1: true of no TMD
_FCS: Final = 4
_PAD: Final = bytes(SHORTEST)

_INDEX: Final = indices(VMAPP)
_FRAMES: Final = _INDEX["tx_frames"]
_BYTES: Final = _INDEX["tx_bytes"]
_ERRORS: Final = _INDEX["tx_errors"]


class Outlet:
    """Sends gathered frames. ``loop`` gets looped-back ones with FCS; ``on_frame`` sees every one without.

    ``own_fcs`` is (mask, value): a first TMD whose status fits it starts a frame that brings its own FCS.
    """

    def __init__(
        self,
        words: memoryview,
        port: FramePort,
        counters: memoryview,
        events: Events,
        loop: Callable[[memoryview], None],
    ) -> None:
        self.port = port
        self.on_frame: Callable[[memoryview], None] | None = None
        self.own_fcs = NEVER
        self.loops = False
        self._words = words
        self._counters = counters
        self._events = events
        self._loop = loop
        self._scratch = memoryview(bytearray(MAX_FRAME + _FCS))

    def configure(self, no_fcs: bool) -> None:
        """Takes the modes from CSR15; ``no_fcs``: bit 29 of a TMD is NO_FCS, not ADD_FCS."""
        mode = self._words[CSR + 15]
        self.loops = bool(mode & CSR15_LOOP)
        if no_fcs:
            self.own_fcs = (0, 0) if mode & CSR15_DXMTFCS else (TMD1_ADD_FCS, TMD1_ADD_FCS)
        else:
            self.own_fcs = (TMD1_ADD_FCS, 0) if mode & CSR15_DXMTFCS else NEVER

    def account(self, frames: int, size: int) -> None:
        """Counts frames that went out and their bytes without FCS."""
        self._events.csr4 |= CSR4_TXSTRT
        self._counters[_FRAMES] += frames
        self._counters[_BYTES] += size

    def emit(self, parts: list[memoryview], size: int, first: int) -> int:
        """Puts a frame of ``size`` bytes in ``parts`` on its way; ``first``: its first TMD's status.

        Answers the TMD2 error bits for its last TMD.
        """
        words = self._words
        mode = words[CSR + 15]
        inside = self.loops and bool(mode & CSR15_INTL)
        if inside and mode & CSR15_FCOLL:
            return TMD2_RTRY
        if not inside and not words[LINK_UP]:
            self._events.csr0 |= CSR0_CERR
            return TMD2_LCAR
        padded = size < SHORTEST + _FCS and bool(words[CSR + 4] & CSR4_APAD_XMT)
        mask, value = self.own_fcs
        own_fcs = first & mask == value and not padded
        if size > (LONGEST + _FCS if own_fcs else LONGEST):
            self._events.csr0 |= CSR0_BABL
        if self.loops:
            self._loop_back(parts, size, padded, own_fcs)
        elif not 1 < len(parts) <= _MOST_PARTS or padded or own_fcs or self.on_frame is not None:
            self._send_whole(self._whole(parts, size, padded), own_fcs)
        else:
            self.port.send(parts)
            self.account(1, size)
        return 0

    def _whole(self, parts: list[memoryview], size: int, padded: bool) -> memoryview:
        """The frame in one piece: where it lies in RAM if that will do, else in the scratch buffer."""
        scratch = self._scratch
        if len(parts) == 1 and not padded:
            return parts[0]
        end = 0
        for part in parts:
            start, end = end, end + len(part)
            scratch[start:end] = part
        if padded and size < SHORTEST:
            scratch[size:SHORTEST] = _PAD[size:]
            size = SHORTEST
        return scratch[:size]

    def _send_whole(self, frame: memoryview, own_fcs: bool) -> None:
        """Sends a frame on the wire; one whose own FCS is wrong is lost there, as no station accepts it."""
        if own_fcs:
            body = frame[:-_FCS]
            if int.from_bytes(frame[-_FCS:], "little") != crc32(body):
                self._counters[_ERRORS] += 1
                self._events.csr4 |= CSR4_TXSTRT  # the chip has sent it all the same
                return
            frame = body
        if self.on_frame is not None:
            self.on_frame(frame)
        self.port.send(frame)
        self.account(1, len(frame))

    def _loop_back(self, parts: list[memoryview], size: int, padded: bool, own_fcs: bool) -> None:
        """Hands a copy of the frame, with FCS, to the receiver. Nothing that it does comes back here."""
        frame = self._whole(parts, size, padded)
        size = len(frame)
        scratch = self._scratch
        if len(parts) == 1 and not padded:
            scratch[:size] = frame
        if not own_fcs:
            scratch[size : size + _FCS] = crc32(frame).to_bytes(_FCS, "little")
            size += _FCS
        if self.on_frame is not None:
            self.on_frame(scratch[: max(0, size - _FCS)])
        self.account(1, size - _FCS if size > _FCS else 0)
        self._loop(scratch[:size])
