"""The Lance's transmitter: from the TMDs that the ring owns to frames on the port.

Two paths. ``_plain`` is what a stream of full-size frames takes: one TMD, in RAM, FCS by the chip, cable plugged
in. ``_one_frame`` does everything else, one frame at a time: chains, padding, the guest's own FCS, loopback,
bad addresses, skipped and broken descriptors. A frame is gathered before anything of it is handed back, so that
no state has to survive between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

from machine.counters import VMAPP, indices
from machine.lance.bits import (
    BCR2_TMAULOOP,
    CSR0_BABL,
    CSR0_CERR,
    CSR0_MERR,
    CSR0_TDMD,
    CSR0_TINT,
    CSR0_TXON,
    CSR3_DXSUFLO,
    CSR4_APAD_XMT,
    CSR4_TXSTRT,
    CSR5_LTINTEN,
    CSR5_SPND,
    CSR5_TOKINTD,
    CSR15_DXMTFCS,
    CSR15_FCOLL,
    CSR15_INTL,
    CSR15_LOOP,
    TMD1_ADD_FCS,
    TMD1_BCNT,
    TMD1_ENP,
    TMD1_ERR,
    TMD1_LTINT,
    TMD1_OWN,
    TMD1_STP,
    TMD2_BUFF,
    TMD2_LCAR,
    TMD2_RTRY,
    TMD2_UFLO,
)
from machine.lance.regfile import RegisterFile
from machine.lance.state import BCR, CSR, LINK_UP
from machine.memory import GuestMemory

from .descriptors import TMD_KEPT, DescriptorLayout
from .port import FramePort
from .ring import MAX_DESCRIPTORS, TRANSMIT_RING, Ring

__all__ = ["MAX_FRAME", "Transmitter"]

MAX_FRAME: Final = 65536  # bytes; a longer chain is given up
_SHORTEST: Final = 60  # what APAD_XMT pads to, without FCS
_LONGEST: Final = 1514  # without FCS; more is babble
_FCS: Final = 4
_PAD: Final = bytes(_SHORTEST)
_WHOLE: Final = TMD1_OWN | TMD1_STP | TMD1_ENP
_TRUNCATED: Final = TMD2_BUFF | TMD2_UFLO
_GIVEN_UP: Final = TMD2_BUFF
_NEVER: Final = (0, 1)  # status & 0 == 1: no TMD is plain

_INDEX: Final = indices(VMAPP)
_FRAMES: Final = _INDEX["tx_frames"]
_BYTES: Final = _INDEX["tx_bytes"]
_ERRORS: Final = _INDEX["tx_errors"]
_MEMORY_ERRORS: Final = _INDEX["memory_errors"]


class Transmitter:
    """The transmit half. ``loop`` is given every looped-back frame with its FCS; ``on_frame`` every frame."""

    def __init__(
        self,
        regs: RegisterFile,
        memory: GuestMemory,
        port: FramePort,
        counters: memoryview,
        loop: Callable[[memoryview], None],
    ) -> None:
        self.ring = Ring(regs.words, memory, TRANSMIT_RING)
        self.on_frame: Callable[[memoryview], None] | None = None
        self._regs = regs
        self._words = regs.words
        self._memory = memory
        self._port = port
        self._counters = counters
        self._loop = loop
        self._scratch = memoryview(bytearray(MAX_FRAME + _FCS))
        self._parts: list[memoryview] = []
        self._causes = 0  # CSR0 bits to raise when the burst is over
        self._started = False  # a transmission began in this burst
        self._mode = 0
        self._own_fcs = _NEVER  # (mask, value): a TMD whose frame brings its own FCS
        self._plain_tmd = _NEVER  # (mask, value): a TMD that the fast path may take
        self._tint_mask = 0  # TMD bits that ask for a TINT when all went well

    def configure(self, layout: DescriptorLayout, high: int) -> None:
        """Takes ring, mode and interrupt choices from the registers."""
        words = self._words
        self.ring.configure(layout, high)
        self._mode = words[CSR + 15]
        self._own_fcs = _own_fcs(layout.no_fcs, bool(self._mode & CSR15_DXMTFCS))
        self._plain_tmd = _NEVER if self._mode & CSR15_LOOP else _plain_tmd(self._own_fcs)
        if words[CSR + 5] & CSR5_LTINTEN:
            self._tint_mask = TMD1_LTINT
        else:
            self._tint_mask = 0 if words[CSR + 5] & CSR5_TOKINTD else TMD1_ENP

    @property
    def enabled(self) -> bool:
        """Transmitter on and not suspended."""
        words = self._words
        return bool(words[CSR] & CSR0_TXON) and not words[CSR + 5] & CSR5_SPND

    @property
    def waiting(self) -> bool:
        """The TMD at the ring's position is the chip's, or lies where ``run`` has to report it."""
        position = self.ring.load()
        return self._owned(position) or self.ring.locate(position) is None

    def run(self) -> bool:
        """Sends what the ring owns, MAX_DESCRIPTORS or one turn of the ring at most; True if it owned anything.

        TDMD stays set when the limit cut the work short.
        """
        if not self.enabled:
            if not self._words[CSR] & CSR0_TXON:
                self._words[CSR] &= ~CSR0_TDMD
            return False
        ring = self.ring
        start = position = ring.load()
        budget = limit = min(ring.length, MAX_DESCRIPTORS)
        while budget:
            done = self._plain(position, budget)
            position, budget = (position + done) % ring.length, budget - done
            done = self._one_frame(position) if budget and self.enabled else 0
            if not done:
                break
            position, budget = (position + done) % ring.length, max(0, budget - done)
        if budget != limit or position != start:
            ring.store(position)
        self._settle(position)
        return budget != limit

    def _settle(self, position: int) -> None:
        """Clears or keeps TDMD, then raises what the burst has caused."""
        if self.enabled and self._owned(position):
            self._words[CSR] |= CSR0_TDMD
        else:
            self._words[CSR] &= ~CSR0_TDMD
        causes, self._causes = self._causes, 0
        started, self._started = self._started, False
        if started and not self._words[CSR + 4] & CSR4_TXSTRT:
            self._regs.raise_csr4(CSR4_TXSTRT)
        if causes:
            self._regs.raise_csr0(causes)

    def _owned(self, position: int) -> bool:
        place = self.ring.locate(position)
        return place is not None and bool(place[0][place[1] + self.ring.layout.status] & TMD1_OWN)

    def _plain(self, position: int, budget: int) -> int:
        """Sends single-TMD frames of ordinary length from ``position`` on; the number of TMDs used up."""
        if not self._words[LINK_UP]:
            return 0
        ring, hook = self.ring, self.on_frame
        view, reach, length, high, layout = ring.view, ring.reach, ring.length, ring.high, ring.layout
        step, address_word, count_word = layout.words, layout.address, layout.count
        status_word, result_word, result_kept = layout.status, layout.result, layout.result_kept
        address_mask, tint_mask = layout.address_mask, self._tint_mask
        mask, value = self._plain_tmd
        window, send = self._memory.window, self._port.send
        done = sent_bytes = tint = 0
        while done < budget and position < reach:
            at = position * step
            status = view[at + status_word]
            size = -view[at + count_word] & TMD1_BCNT
            if status & mask != value or not _SHORTEST <= size <= _LONGEST:
                break
            frame = window(view[at + address_word] & address_mask | high, size)
            if frame is None:
                break
            if hook is not None:
                hook(frame)
            send(frame)
            view[at + result_word] &= result_kept
            view[at + status_word] = status & TMD_KEPT
            tint |= status & tint_mask
            sent_bytes += size
            done += 1
            position += 1
            if position == length:
                position = 0
        if done:
            self._account(done, sent_bytes)
            self._causes |= CSR0_TINT if tint else 0
        return done

    def _one_frame(self, position: int) -> int:
        """Sends one frame of any kind, or skips one TMD without STP; TMDs used up, 0 if none is owned."""
        ring = self.ring
        place = ring.locate(position)
        if place is None:
            self._ring_lost()
            return 0
        view, at = place
        at += ring.layout.status
        status = view[at]
        if not status & TMD1_OWN:
            return 0
        if not status & TMD1_STP:
            view[at] = status & TMD_KEPT
            self._causes |= CSR0_TINT
            return 1
        used, size, fault = self._gather(position)
        if not fault:
            fault = self._emit(status, size)
        if used:
            self._hand_back(position, used, fault)
        return used

    def _gather(self, position: int) -> tuple[int, int, int]:
        """Collects one frame's buffers in ``_parts``: TMDs used up, bytes, and the last TMD's error bits."""
        ring, layout, parts = self.ring, self.ring.layout, self._parts
        parts.clear()
        total = 0
        for used in range(min(ring.length, MAX_DESCRIPTORS)):
            place = ring.locate(position)
            if place is None:
                self._ring_lost()
                return used, 0, _TRUNCATED
            view, at = place
            status = view[at + layout.status]
            if not status & TMD1_OWN:
                return used, 0, _TRUNCATED
            size = -view[at + layout.count] & TMD1_BCNT or 4096
            part = self._memory.window(view[at + layout.address] & layout.address_mask | ring.high, size)
            if part is None:
                self._memory_error()
                return used + 1, 0, _TRUNCATED
            total += size
            if total > MAX_FRAME:
                self._causes |= CSR0_BABL
                return used + 1, 0, _GIVEN_UP
            parts.append(part)
            if status & TMD1_ENP:
                return used + 1, total, 0
            position = ring.after(position)
        return len(parts), 0, _TRUNCATED

    def _emit(self, first: int, size: int) -> int:
        """Puts the gathered frame of ``size`` bytes on its way; ``first``: its first TMD's status.

        Answers the error bits for its last TMD.
        """
        words, mode = self._words, self._mode
        loop = bool(mode & CSR15_LOOP)
        inside = loop and bool(mode & CSR15_INTL or words[BCR + 2] & BCR2_TMAULOOP)
        if inside and mode & CSR15_FCOLL:
            return TMD2_RTRY
        if not inside and not words[LINK_UP]:
            self._causes |= CSR0_CERR
            return TMD2_LCAR
        padded = size < _SHORTEST + _FCS and bool(words[CSR + 4] & CSR4_APAD_XMT)
        mask, value = self._own_fcs
        own_fcs = first & mask == value and not padded
        if size > (_LONGEST + _FCS if own_fcs else _LONGEST):
            self._causes |= CSR0_BABL
        self._started = True
        if loop:
            self._loop_back(size, padded, own_fcs)
        elif len(self._parts) == 1 or padded or own_fcs or self.on_frame is not None:
            self._send_whole(self._whole(size, padded), own_fcs)
        else:
            self._port.send(self._parts)
            self._account(1, size)
        return 0

    def _whole(self, size: int, padded: bool) -> memoryview:
        """The gathered frame in one piece: where it lies in RAM if that will do, else in the scratch buffer."""
        parts, scratch = self._parts, self._scratch
        if len(parts) == 1 and not padded:
            return parts[0]
        end = 0
        for part in parts:
            start, end = end, end + len(part)
            scratch[start:end] = part
        if padded and size < _SHORTEST:
            scratch[size:_SHORTEST] = _PAD[size:]
            size = _SHORTEST
        return scratch[:size]

    def _send_whole(self, frame: memoryview, own_fcs: bool) -> None:
        """Sends a frame on the wire; one whose own FCS is wrong is lost there, as no station accepts it."""
        if own_fcs:
            body = frame[:-_FCS]
            if int.from_bytes(frame[-_FCS:], "little") != crc32(body):
                self._counters[_ERRORS] += 1
                return
            frame = body
        if self.on_frame is not None:
            self.on_frame(frame)
        self._port.send(frame)
        self._account(1, len(frame))

    def _loop_back(self, size: int, padded: bool, own_fcs: bool) -> None:
        """Hands a copy of the frame, with FCS, to the receiver. Nothing that it does comes back here."""
        frame = self._whole(size, padded)
        size = len(frame)
        scratch = self._scratch
        if len(self._parts) == 1 and not padded:
            scratch[:size] = frame
        if not own_fcs:
            scratch[size : size + _FCS] = crc32(frame).to_bytes(_FCS, "little")
            size += _FCS
        if self.on_frame is not None:
            self.on_frame(scratch[: max(0, size - _FCS)])
        self._account(1, size - _FCS if size > _FCS else 0)
        self._loop(scratch[:size])

    def _hand_back(self, position: int, used: int, fault: int) -> None:
        """Gives ``used`` TMDs back, the last one with the frame's error bits; OWN goes last."""
        ring, layout = self.ring, self.ring.layout
        for remaining in range(used - 1, -1, -1):
            place = ring.locate(position)
            if place is None:
                return
            view, at = place
            status = view[at + layout.status]
            if not remaining:
                view[at + layout.result] = view[at + layout.result] & layout.result_kept | fault
                self._causes |= CSR0_TINT if fault or status & self._tint_mask else 0
            view[at + layout.status] = status & TMD_KEPT | (0 if remaining or not fault else TMD1_ERR)
            position = ring.after(position)
        if fault:
            self._counters[_ERRORS] += 1
        if fault & TMD2_UFLO and not self._words[CSR + 3] & CSR3_DXSUFLO:
            self._words[CSR] &= ~CSR0_TXON

    def _account(self, frames: int, size: int) -> None:
        self._started = True
        self._counters[_FRAMES] += frames
        self._counters[_BYTES] += size

    def _memory_error(self) -> None:
        self._causes |= CSR0_MERR
        self._counters[_MEMORY_ERRORS] += 1

    def _ring_lost(self) -> None:
        """The ring itself has left RAM: as in the first LANCE, MERR turns this half of the chip off."""
        self._memory_error()
        self._words[CSR] &= ~CSR0_TXON


def _own_fcs(no_fcs: bool, dxmtfcs: bool) -> tuple[int, int]:
    """(mask, value) of the TMD status of frames that bring their own FCS; ``no_fcs``: bit 29 is NO_FCS."""
    if no_fcs:
        return (0, 0) if dxmtfcs else (TMD1_ADD_FCS, TMD1_ADD_FCS)
    return (TMD1_ADD_FCS, 0) if dxmtfcs else _NEVER


def _plain_tmd(own_fcs: tuple[int, int]) -> tuple[int, int]:
    """(mask, value) of the status of an owned TMD that is a whole frame whose FCS the chip appends."""
    if own_fcs == (0, 0):
        return _NEVER
    bit = own_fcs[0]
    return _WHOLE | bit, _WHOLE | (bit & ~own_fcs[1])
