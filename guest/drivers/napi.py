"""A present-day driver: interrupts masked while it polls, frames in batches, one kick a batch.

The pattern of today's pcnet32 with NAPI: the handler acknowledges and masks (CSR3), polling takes place in
memory alone, and the last poll unmasks. Two features of the chip keep interrupts rare: LTINTEN (CSR5) limits
transmit interrupts to descriptors that ask for one, and only a filling ring asks.
"""

from __future__ import annotations

import os
from itertools import count
from time import monotonic_ns
from typing import Final

from guest.card import Card
from guest.drivers.pcnet import Pcnet
from guest.events import Events
from machine.fence import make_fence
from machine.lance.bits import (
    CSR0_CAUSES,
    CSR0_INEA,
    CSR0_TDMD,
    CSR3_MASKS,
    CSR5_LTINTEN,
    TMD1_LTINT,
)

__all__ = ["LOG_RX", "LOG_TX", "Napi"]

LOG_TX: Final = 8
LOG_RX: Final = 8

_SEND: Final = CSR0_INEA | CSR0_TDMD
_BATCH: Final = 32  # frames between two kicks: the chip starts while the driver goes on reading
_NOTICE_NS: Final = 20_000  # how soon a chip that lingers has sent a frame
_BUDGET: Final = 64  # frames received before the other direction gets its turn
_TURNS: Final = 64  # of the loop between two looks at the kernel's clock; a power of two


class Napi:
    """``stack_events``: polls wake descriptor and stack; ``chip_events``: the wake descriptor alone.

    ``linger_us``: how long it goes on polling after the last frame, and whether it expects the chip to do the same.
    ``card``: what the guest's kernel wants of the chip; None: nothing but what ``open`` has been told.
    """

    def __init__(
        self, chip: Pcnet, stack_events: Events, chip_events: Events, linger_us: int = 0, card: Card | None = None
    ) -> None:
        self._chip = chip
        self._card = Card(chip) if card is None else card
        self._card.opened = self.start  # a chip that has been closed has lost what start() had set
        self._stack_events = stack_events
        self._chip_events = chip_events
        self._linger_ns = linger_us * 1000
        self._masked = False
        self._unseen = 0  # word of the status of the first frame that the chip may not know of; 0: there is none
        self._queued_ns = 0  # when that frame was queued
        self._woken = False  # just out of HLT: the chip has no more reason to linger than the driver had
        self._fence = make_fence()

    def start(self) -> None:
        """After open(): transmit interrupts only where a descriptor asks for one."""
        self._chip.write_csr(5, CSR5_LTINTEN)

    def run(self) -> None:
        """Polls both directions while there is work, and for a while after; then unmasks and halts."""
        chip, cpu, card, linger_ns = self._chip, self._chip.cpu, self._card, self._linger_ns
        self.start()
        cpu.sti()
        last_work = 0
        for turn in count():
            if not turn % _TURNS:
                card.look_if_due()
            if card.wanted is not None:
                self._set_card()
            received = chip.receive(_BUDGET)
            sent = self._transmit()
            self._woken = False
            if linger_ns:
                now = monotonic_ns()
                if received or sent:
                    last_work = now
                if self._unseen and now - self._queued_ns > _NOTICE_NS:
                    self._kick_if_unseen()
                if now - last_work < linger_ns:
                    os.sched_yield()
                    continue
            elif received or sent:
                continue
            cpu.cli()
            if self._masked:
                self._unmask()
                cpu.sti()
                continue  # what arrived before the unmasking raised no interrupt: look once more
            cpu.hlt(self._chip_events if self._cannot_send() else self._stack_events)
            self._woken = True

    def _set_card(self) -> None:
        cpu = self._chip.cpu
        cpu.cli()  # the handler writes RAP, too
        self._card.apply()
        cpu.sti()

    def _cannot_send(self) -> bool:
        """Whether frames have to stay in the stack: the card is off, or its ring full."""
        chip = self._chip
        if not chip.up:
            return True
        if chip.tx_used < chip.tx_size - 1:
            return False
        chip.reclaim()
        return chip.tx_used >= chip.tx_size - 1

    def _transmit(self) -> int:
        """Queues up to a batch from the stack and sees to it that the chip knows; the number of frames."""
        chip = self._chip
        if not chip.up:
            return 0
        chip.reclaim()
        room = min(_BATCH, chip.tx_size - 1 - chip.tx_used)
        ask_at = chip.tx_size * 3 // 4
        before = chip.last_queued()
        sent = 0
        while sent < room and chip.queue_from_stack(TMD1_LTINT if chip.tx_used >= ask_at else 0):
            sent += 1
        if sent:
            self._fence()  # the new OWN bits are out before the old one is read
            if not chip.still_owned(before):  # else the chip has yet to come past, and finds them
                self._announce(chip.status_after(before))
        elif not room:
            chip.note_ring_full()
        return sent

    def _announce(self, first: int) -> None:
        """New frames, from the one whose status is word ``first`` on, behind everything that the chip knew of.

        A chip that lingers sees them by itself; whether it did shows after a moment.
        """
        if not self._linger_ns or self._woken:
            self._kick()
        elif not (self._unseen and self._chip.still_owned(self._unseen)):  # else the earlier frame's kick will do
            self._unseen, self._queued_ns = first, monotonic_ns()

    def _kick_if_unseen(self) -> None:
        unseen, self._unseen = self._unseen, 0
        if self._chip.still_owned(unseen):
            self._kick()

    def _kick(self) -> None:
        cpu = self._chip.cpu
        cpu.cli()  # the handler writes RAP, too
        self._chip.write_csr(0, _SEND)
        if self._linger_ns:
            self._chip.receive(_BUDGET)  # an answer may be here already: it need not wait for its interrupt
        cpu.sti()

    def interrupt(self) -> None:
        """pcnet32_interrupt(): acknowledge everything, mask everything, leave the work to the poll."""
        chip = self._chip
        csr0 = chip.read_csr(0)
        chip.write_csr(0, csr0 & CSR0_CAUSES)
        chip.write_csr(3, CSR3_MASKS)
        self._masked = True

    def _unmask(self) -> None:
        """The end of pcnet32_poll(): causes that the poll has served are cleared, masks off, interrupts on."""
        self._masked = False
        self._chip.write_csr(0, CSR0_CAUSES | CSR0_INEA)
        self._chip.write_csr(3, 0)
