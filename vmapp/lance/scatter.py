"""The careful way into the receive ring: one frame over as many RMDs as it takes, each checked alone."""

from __future__ import annotations

from machine.lance.bits import (
    CSR0_RINT,
    CSR0_RXON,
    RMD1_BCNT,
    RMD1_BUFF,
    RMD1_ENP,
    RMD1_ERR,
    RMD1_OFLO,
    RMD1_OWN,
    RMD1_STP,
    RMD2_MCNT,
)
from machine.lance.state import CSR
from machine.memory import GuestMemory

from .events import Events
from .ring import MAX_DESCRIPTORS, RECEIVE_RING, Ring
from .words import Words

__all__ = ["Scatter"]


class Scatter:
    """Stores whole frames at ``ring.position`` and moves it on.

    ``budget`` bounds the RMDs that one call of the engine may use up; ``refill`` renews it.
    """

    def __init__(self, words: memoryview, memory: GuestMemory, events: Events) -> None:
        self.ring = Ring(words, memory, RECEIVE_RING)
        self.budget = 0
        self._words = words
        self._memory = memory
        self._events = events

    def refill(self) -> None:
        """A new call of the engine begins."""
        self.budget = MAX_DESCRIPTORS

    def owned(self, position: int) -> tuple[Words, int] | None:
        """Where the RMD is, if it is the chip's. One outside RAM is MERR and turns the receiver off."""
        place = self.ring.locate(position)
        if place is None:
            self._events.memory_error()
            self._words[CSR] &= ~CSR0_RXON
            return None
        return place if place[0][place[1] + self.ring.layout.status] & RMD1_OWN else None

    def store(self, frame: memoryview, flags: int, lead: int = 0) -> bool:
        """Spreads ``frame`` over the RMDs, ``flags`` (RMD1 bits) into the last; False if they did not hold it.

        ``lead``: zeros that come before it, and are not counted in MCNT (RCVALGN; the chip's are random).
        """
        if lead:
            frame = memoryview(bytes(lead) + frame)
        ring, size = self.ring, len(frame)
        place = self.owned(ring.position)
        start, begin = 0, RMD1_STP
        while place is not None:
            self.budget -= 1
            ring.position = ring.after(ring.position)
            end = self._fill(place, frame, start)
            if end == start:
                self._hand_back(place, begin | RMD1_ERR | RMD1_OFLO)
                return False
            if end == size:
                self._hand_back(place, begin | RMD1_ENP | flags, size - lead)
                return True
            # In a ring of one the next RMD is this one, which still looks owned: hence the length.
            following = self.owned(ring.position) if self.budget > 0 and ring.length > 1 else None
            self._hand_back(place, begin if following else begin | RMD1_ERR | RMD1_BUFF | RMD1_OFLO)
            place, start, begin = following, end, 0
        return False

    def _fill(self, place: tuple[Words, int], frame: memoryview, start: int) -> int:
        """Copies what fits into one RMD's buffer; where the rest begins, ``start`` if that place cannot be reached.

        Only the bytes that are stored have to be reachable: the tail of a buffer that a frame leaves unused may lie
        in a page that an IOMMU has not mapped.
        """
        view, at = place
        layout = self.ring.layout
        room = -view[at + layout.count] & RMD1_BCNT or 4096
        end = min(len(frame), start + room)
        address = view[at + layout.address] & layout.address_mask | self.ring.high
        if not self._memory.write(address, frame[start:end]):
            self._events.memory_error()
            return start
        return end

    def _hand_back(self, place: tuple[Words, int], flags: int, size: int | None = None) -> None:
        """Writes MCNT, if this is the frame's end, and then the status without OWN."""
        view, at = place
        layout = self.ring.layout
        if size is not None:
            count = (size & RMD2_MCNT) << layout.mcnt_shift
            view[at + layout.result] = view[at + layout.result] & layout.result_kept | count
        view[at + layout.status] = view[at + layout.status] & layout.rmd_kept | flags
        self._events.csr0 |= CSR0_RINT
