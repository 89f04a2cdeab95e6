"""The Lance's transmitter: from the TMDs that the ring owns to frames on the port.

Two paths. ``_plain`` is what a stream of full-size frames takes: one TMD, in RAM, FCS by the chip, cable plugged
in. ``_one_frame`` does everything else, one frame at a time: chains, padding, the guest's own FCS, loopback,
bad addresses, skipped and broken descriptors. A frame is gathered before anything of it is handed back, so that
no state has to survive between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from machine.counters import VMAPP, indices
from machine.fence import make_fence
from machine.lance.bits import (
    CSR0_BABL,
    CSR0_TDMD,
    CSR0_TINT,
    CSR0_TXON,
    CSR3_DXSUFLO,
    CSR5_LTINTEN,
    CSR5_TOKINTD,
    TMD1_BCNT,
    TMD1_ENP,
    TMD1_ERR,
    TMD1_LTINT,
    TMD1_OWN,
    TMD1_STP,
    TMD2_BUFF,
    TMD2_UFLO,
)
from machine.lance.core import is_quiet
from machine.lance.pci import BUS_MASTER, COMMAND_WORD
from machine.lance.state import CSR, LINK_UP
from machine.memory import GuestMemory

from .descriptors import TMD_KEPT, DescriptorLayout
from .events import Events
from .outlet import LONGEST, MAX_FRAME, NEVER, SHORTEST, Outlet
from .port import FramePort
from .ring import MAX_DESCRIPTORS, TRANSMIT_RING, Ring

__all__ = ["Transmitter"]

_WHOLE: Final = TMD1_OWN | TMD1_STP | TMD1_ENP
_TRUNCATED: Final = TMD2_BUFF | TMD2_UFLO
_GIVEN_UP: Final = TMD2_BUFF
_ERRORS: Final = indices(VMAPP)["tx_errors"]


class Transmitter:
    """The transmit half. ``loop`` is given every looped-back frame with its FCS."""

    def __init__(
        self,
        words: memoryview,
        memory: GuestMemory,
        port: FramePort,
        counters: memoryview,
        events: Events,
        loop: Callable[[memoryview], None],
    ) -> None:
        self.ring = Ring(words, memory, TRANSMIT_RING)
        self.outlet = Outlet(words, port, counters, events, loop)
        self._words = words
        self._memory = memory
        self._counters = counters
        self._events = events
        self._fence = make_fence()
        self._parts: list[memoryview] = []
        self._plain_tmd = NEVER  # (mask, value): a TMD that the fast path may take
        self._tint_mask = 0  # TMD bits that ask for a TINT when all went well

    def configure(self, layout: DescriptorLayout, high: int) -> None:
        """Takes ring, mode and interrupt choices from the registers."""
        self.ring.configure(layout, high)
        self.outlet.configure(layout.no_fcs)
        self._plain_tmd = NEVER if self.outlet.loops else _plain_tmd(self.outlet.own_fcs)
        csr5 = self._words[CSR + 5]
        if csr5 & CSR5_LTINTEN:
            self._tint_mask = TMD1_LTINT
        else:
            self._tint_mask = 0 if csr5 & CSR5_TOKINTD else TMD1_ENP

    def forget_parts(self) -> None:
        """Keeps no view of the last frame's buffers."""
        self._parts.clear()

    @property
    def enabled(self) -> bool:
        """Transmitter on, not suspended or asleep, and allowed on the bus."""
        words = self._words
        return bool(words[CSR] & CSR0_TXON and words[COMMAND_WORD] & BUS_MASTER) and not is_quiet(words[CSR + 5])

    @property
    def waiting(self) -> bool:
        """The TMD at the ring's position is the chip's, or lies where ``run`` has to report it."""
        return self._owned(self.ring.load())

    def run(self) -> bool:
        """Sends what the ring owns, MAX_DESCRIPTORS or one turn of the ring at most; True if it owned anything.

        TDMD stays set when the limit cut the work short, and while the chip is suspended or kept off the bus.
        """
        if not self.enabled:
            if not self._words[CSR] & CSR0_TXON:
                self._words[CSR] &= ~CSR0_TDMD
            return False
        ring = self.ring
        length = ring.length
        position = ring.load()
        budget = limit = min(length, MAX_DESCRIPTORS)
        more = True
        while more and budget > 0:
            done = self._plain(position, budget)
            position = (position + done) % length
            budget -= done
            more = self._more(position)
            if more and budget > 0:
                done = self._one_frame(position)
                position = (position + done) % length
                budget -= done
                more = done > 0 and bool(self._words[CSR] & CSR0_TXON) and self._more(position)
        if budget != limit:
            ring.store(position)
        if more:
            self._words[CSR] |= CSR0_TDMD
        else:
            self._words[CSR] &= ~CSR0_TDMD
        return budget != limit

    def _more(self, position: int) -> bool:
        """Whether to go on. A driver that sees us busy does not kick: it has stored OWN before it looked."""
        if self._owned(position):
            return True
        self._fence()
        return self._owned(position)

    def _owned(self, position: int) -> bool:
        """True, too, for a TMD outside RAM: the next look at it reports that."""
        ring = self.ring
        place = ring.locate(position)
        return place is None or bool(place[0][place[1] + ring.layout.status] & TMD1_OWN)

    def _plain(self, position: int, budget: int) -> int:
        """Sends single-TMD frames of ordinary length from ``position`` on; the number of TMDs used up."""
        if not self._words[LINK_UP]:
            return 0
        view, reach, length, high, step, address, status_word, count, result, address_mask, kept = self.ring.fast
        hook, tint_mask = self.outlet.on_frame, self._tint_mask
        mask, value = self._plain_tmd
        source, send = self._memory.source, self.outlet.port.send
        done = sent_bytes = tint = 0
        while done < budget and position < reach:
            at = position * step
            status = view[at + status_word]
            size = -view[at + count] & TMD1_BCNT
            if status & mask != value or not SHORTEST <= size <= LONGEST:
                break
            frame = source(view[at + address] & address_mask | high, size)
            if frame is None:
                break
            if hook is not None:
                hook(frame)
            send(frame)
            view[at + result] &= kept
            view[at + status_word] = status & TMD_KEPT
            tint |= status & tint_mask
            sent_bytes += size
            done += 1
            position += 1
            if position == length:
                position = 0
        if done:
            self.outlet.account(done, sent_bytes)
            self._events.csr0 |= CSR0_TINT if tint else 0
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
            self._events.csr0 |= CSR0_TINT
            return 1
        used, size, fault = self._gather(position)
        if not fault:
            fault = self.outlet.emit(self._parts, size, status)
        if used:
            self._hand_back(position, used, fault)
        return used

    def _gather(self, position: int) -> tuple[int, int, int]:
        """Collects one frame's buffers in ``_parts``: TMDs used up, bytes, and the last TMD's error bits."""
        ring, layout, parts = self.ring, self.ring.layout, self._parts
        parts.clear()
        total = 0
        most = min(ring.length, MAX_DESCRIPTORS)
        for used in range(most):
            place = ring.locate(position)
            if place is None:
                self._ring_lost()
                return used, 0, _TRUNCATED
            view, at = place
            status = view[at + layout.status]
            if not status & TMD1_OWN:
                return used, 0, _TRUNCATED
            size = -view[at + layout.count] & TMD1_BCNT or 4096
            pieces = self._memory.sources(view[at + layout.address] & layout.address_mask | ring.high, size)
            if pieces is None:
                self._events.memory_error()
                return used + 1, 0, _TRUNCATED
            total += size
            if total > MAX_FRAME:
                self._events.csr0 |= CSR0_BABL
                return used + 1, 0, _GIVEN_UP
            parts += pieces
            if status & TMD1_ENP:
                return used + 1, total, 0
            position = ring.after(position)
        return most, 0, _TRUNCATED

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
                self._events.csr0 |= CSR0_TINT if fault or status & self._tint_mask else 0
            view[at + layout.status] = status & TMD_KEPT | (0 if remaining or not fault else TMD1_ERR)
            position = ring.after(position)
        if fault:
            self._counters[_ERRORS] += 1
        if fault & TMD2_UFLO and not self._words[CSR + 3] & CSR3_DXSUFLO:
            self._words[CSR] &= ~CSR0_TXON

    def _ring_lost(self) -> None:
        """The ring itself has left RAM: as in the first LANCE, MERR turns this half of the chip off."""
        self._events.memory_error()
        self._words[CSR] &= ~CSR0_TXON


def _plain_tmd(own_fcs: tuple[int, int]) -> tuple[int, int]:
    """(mask, value) of the status of an owned TMD that is a whole frame whose FCS the chip appends."""
    if own_fcs == (0, 0):
        return NEVER
    bit = own_fcs[0]
    return _WHOLE | bit, _WHOLE | (bit & ~own_fcs[1])
