"""The Lance's receiver: from frames on the port to the RMDs that the guest has lent it.

Two paths. ``_plain`` reads a frame straight into the guest's buffer, in place: one readv() into [buffer, spill],
filter, pad, FCS, RMD. Whatever does not fit in one buffer, or has no ordinary buffer to go to, passes through a
scratch buffer and ``scatter``, which chains over any number of RMDs. A frame is only read when there is an RMD
for it: a full ring leaves the frames where they are, and their sender waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

from machine.counters import VMAPP, indices
from machine.lance.bits import (
    CSR0_MISS,
    CSR0_RINT,
    CSR0_RXON,
    CSR4_ASTRP_RCV,
    CSR4_MFCO,
    CSR5_MPINT,
    CSR15_LOOP,
    RMD1_BCNT,
    RMD1_CRC,
    RMD1_ENP,
    RMD1_ERR,
    RMD1_OWN,
    RMD1_STP,
    RMD2_MCNT,
)
from machine.lance.core import is_quiet
from machine.lance.pci import BUS_MASTER, COMMAND_WORD
from machine.lance.state import CSR, LINK_UP
from machine.memory import GuestMemory

from .descriptors import DescriptorLayout
from .events import Events
from .filter import AddressFilter, wakes_up
from .port import FramePort
from .scatter import Scatter

__all__ = ["BURST", "Receiver"]

BURST: Final = 64  # frames per call, unless the caller says otherwise
_LONGEST: Final = 65536  # bytes that one read may bring
_SHORTEST: Final = 60  # a sender pads to this, without FCS
_HEADER: Final = 14
_FCS: Final = 4
_DIRECT: Final = _SHORTEST + _FCS  # smallest buffer that a frame is read into directly
_PAD: Final = bytes(_SHORTEST)
_WHOLE: Final = RMD1_STP | RMD1_ENP
_MISSED: Final = CSR + 112
_ALIGN: Final = CSR + 122
_ALIGNED_BY: Final = 2  # bytes before a frame, so that what follows its header of 14 lies at a multiple of four

_INDEX: Final = indices(VMAPP)
_FRAMES: Final = _INDEX["rx_frames"]
_BYTES: Final = _INDEX["rx_bytes"]
_FILTERED: Final = _INDEX["rx_filtered"]
_ERRORS: Final = _INDEX["rx_errors"]
_LOST: Final = _INDEX["rx_missed"]


class Receiver:
    """The receive half. ``on_frame`` is given every frame that was stored, without FCS.

    ``behind``: the last ``receive`` stopped before it had found the port empty, so frames may wait there. What the
    ring says afterwards is no substitute: the guest may have lent a RMD just after ``receive`` had looked for one.
    """

    def __init__(
        self, words: memoryview, memory: GuestMemory, port: FramePort, counters: memoryview, events: Events
    ) -> None:
        self.scatter = Scatter(words, memory, events)
        self.ring = self.scatter.ring
        self.filter = AddressFilter()
        self.on_frame: Callable[[memoryview], None] | None = None
        self.behind = False
        self._words = words
        self._memory = memory
        self._port = port
        self._counters = counters
        self._events = events
        self._scratch = memoryview(bytearray(_LONGEST + _DIRECT))
        self._whole_scratch = [self._scratch[:_LONGEST]]
        self._spill = self._scratch[:_LONGEST]
        self._spill_from = 0  # scratch offset of _spill: the size of the buffer before it
        self._strip = False
        self._lead = 0  # bytes before each frame
        self._slack = _FCS  # room that a frame must leave in its buffer, or else go through the scratch buffer

    def configure(self, layout: DescriptorLayout, high: int) -> None:
        """Takes ring, filter and modes from the registers."""
        self.ring.configure(layout, high)
        self.filter.configure(self._words, layout.match_bits)
        self._strip = bool(self._words[CSR + 4] & CSR4_ASTRP_RCV)
        self._lead = _ALIGNED_BY if self._words[_ALIGN] & 1 else 0
        self._slack = _LONGEST if self._strip or self._lead else _FCS

    @property
    def listening(self) -> bool:
        """Receiver on, not suspended or asleep, allowed on the bus, cable in, the wire not replaced by loopback."""
        words = self._words
        return bool(
            words[CSR] & CSR0_RXON
            and not is_quiet(words[CSR + 5])
            and words[COMMAND_WORD] & BUS_MASTER
            and not words[CSR + 15] & CSR15_LOOP
            and words[LINK_UP]
        )

    def receive(self, limit: int) -> int:
        """Moves up to ``limit`` frames from the port into the ring; the frames taken from the port.

        Stops when the port is empty or the ring full. What comes while the receiver is not listening is dropped.
        """
        if not self.listening:
            return self._discard(limit)
        ring = self.ring
        start = ring.load()
        self.scatter.refill()
        self.behind = True
        taken = 0
        while taken < limit and self.scatter.budget > 0:
            taken += self._plain(limit - taken)
            if not self.behind or taken >= limit or not self._through_scratch():
                break
            taken += 1
        if ring.position != start or taken:
            ring.store(ring.position)
        return taken

    def miss(self, limit: int) -> int:
        """Drops up to ``limit`` frames for want of a RMD; the frames taken. Those that pass the filter count."""
        if not self.listening:
            return self._discard(limit)
        recv_into, parts, scratch, match = self._port.recv_into, self._whole_scratch, self._scratch, self.filter.match
        taken = lost = 0
        while taken < limit and (size := recv_into(parts)):
            taken += 1
            lost += size >= _HEADER and match(bytes(scratch[:6])) is not None
        if lost:
            self._count_missed(lost)
        return taken

    def looped(self, frame: memoryview) -> None:
        """Receives a frame of the chip's own transmitter; ``frame`` includes its FCS, which is checked."""
        words = self._words
        if not words[CSR] & CSR0_RXON or is_quiet(words[CSR + 5]):
            return
        match = self.filter.match(bytes(frame[:6]))
        if match is None:
            self._counters[_FILTERED] += 1
            return
        ring = self.ring
        if self.scatter.owned(ring.load()) is None:
            self._count_missed(1)
        else:
            self.scatter.refill()
            good = int.from_bytes(frame[-_FCS:], "little") == crc32(frame[:-_FCS])
            self._deliver(frame, match if good else match | RMD1_ERR | RMD1_CRC)
            ring.store(ring.position)

    def _plain(self, limit: int) -> int:  # noqa: C901 - one loop without calls of our own per frame
        """Receives in place until the port is empty or something is out of the ordinary; the frames taken."""
        view, reach, length, high, step, address, status_word, count, result, mask, result_kept = self.ring.fast
        kept, mcnt_shift, slack = self.ring.layout.rmd_kept, self.ring.layout.mcnt_shift, self._slack
        ring, scatter, hook, exact, other = self.ring, self.scatter, self.on_frame, self.filter.exact, self.filter.other
        window, recv_into = self._memory.window, self._port.recv_into
        parts = [self._spill, self._spill]
        position, spill_from = ring.position, self._spill_from
        taken = stored = stored_bytes = 0
        while taken < limit and position < reach and scatter.budget > 0:
            at = position * step
            status = view[at + status_word]
            room = -view[at + count] & RMD1_BCNT or 4096
            if not status & RMD1_OWN or room < _DIRECT:
                break
            buffer = window(view[at + address] & mask | high, room)
            if buffer is None:
                break
            if room != spill_from:
                parts[1] = self._spill_behind(room)
                spill_from = room
            parts[0] = buffer
            size = recv_into(parts)
            if not size:
                self.behind = False
                break
            taken += 1
            if size < _SHORTEST:
                if size < _HEADER:
                    self._counters[_ERRORS] += 1
                    continue
                buffer[size:_SHORTEST] = _PAD[size:]
                size = _SHORTEST
            match = exact.get(bytes(buffer[:6]))
            if match is None and (match := other(bytes(buffer[:6]))) is None:
                self._counters[_FILTERED] += 1
                continue
            if size > room - slack:
                ring.position = position
                self._from_buffer(buffer, size, match)
                position = ring.position
                continue
            frame = buffer[:size]
            if hook is not None:
                hook(frame)
            buffer[size : size + _FCS] = crc32(frame).to_bytes(_FCS, "little")
            view[at + result] = view[at + result] & result_kept | (size + _FCS & RMD2_MCNT) << mcnt_shift
            view[at + status_word] = status & kept | _WHOLE | match
            stored += 1
            stored_bytes += size
            position += 1
            if position == length:
                position = 0
        ring.position = position
        if stored:
            self._account(stored, stored_bytes)
        return taken

    def _spill_behind(self, room: int) -> memoryview:
        """The scratch bytes after the first ``room``: what a buffer of that size cannot hold, in its place."""
        self._spill, self._spill_from = self._scratch[room:_LONGEST], room
        return self._spill

    def _from_buffer(self, buffer: memoryview, size: int, match: int) -> None:
        """Stores a frame whose first bytes are in the guest's buffer and the rest in the spill."""
        head = min(size, len(buffer))
        self._scratch[:head] = buffer[:head]
        self._finish(size, match)

    def _through_scratch(self) -> bool:
        """Receives one frame by way of the scratch buffer; False if there is no RMD or no frame."""
        if not self.listening or self.scatter.owned(self.ring.position) is None:
            return False
        size = self._port.recv_into(self._whole_scratch)
        if not size:
            self.behind = False
            return False
        match = self.filter.match(bytes(self._scratch[:6]))
        if size < _HEADER:
            self._counters[_ERRORS] += 1
        elif match is None:
            self._counters[_FILTERED] += 1
        else:
            self._finish(size, match)
        return True

    def _finish(self, size: int, match: int) -> None:
        """Pads the frame in the scratch buffer as its sender would have, appends the FCS, and delivers it."""
        scratch = self._scratch
        if size < _SHORTEST:
            scratch[size:_SHORTEST] = _PAD[size:]
            size = _SHORTEST
        scratch[size : size + _FCS] = crc32(scratch[:size]).to_bytes(_FCS, "little")
        self._deliver(scratch[: size + _FCS], match)

    def _deliver(self, frame: memoryview, flags: int) -> None:
        """Stores a frame with FCS, or without FCS and pad where ASTRP_RCV says so; ``flags``: RMD1 bits for its end."""
        size = max(0, len(frame) - _FCS)
        if self._strip and size >= _HEADER and (inner := frame[12] << 8 | frame[13]) < _SHORTEST - _HEADER:
            size = min(size, _HEADER + inner)
            frame = frame[:size]
        if self.scatter.store(frame, flags, self._lead):
            self._account(1, size)
            if self.on_frame is not None:
                self.on_frame(frame[:size])
        else:
            self._counters[_ERRORS] += 1

    def _discard(self, limit: int) -> int:
        recv_into, parts = self._port.recv_into, self._whole_scratch
        taken = 0
        while taken < limit and (size := recv_into(parts)):
            taken += 1
            if wakes_up(self._scratch[:size], self._words):
                self._events.csr5 |= CSR5_MPINT
        self.behind = taken >= limit
        return taken

    def _count_missed(self, frames: int) -> None:
        words = self._words
        missed = words[_MISSED] + frames
        words[_MISSED] = missed & 0xFFFF
        if missed > 0xFFFF:
            self._events.csr4 |= CSR4_MFCO
        self._events.csr0 |= CSR0_MISS
        self._counters[_LOST] += frames

    def _account(self, frames: int, size: int) -> None:
        self._events.csr0 |= CSR0_RINT
        self._counters[_FRAMES] += frames
        self._counters[_BYTES] += size
