"""The monitor's loop: takes traps, has them carried out, delivers interrupts, hands host events over.

It runs whenever the guest has left direct execution, or when a host interrupt arrives in the VMM world; else
it sleeps on its doorbell and the guest has the processor.
"""

from __future__ import annotations

import os
import time
from typing import Final

from machine import ring, world
from machine.counters import VMM, indices
from machine.launch import IRQ_SIGNAL, Station
from machine.layout import INTERRUPT_MAILBOX, TRAP_CANCEL
from machine.ring import COMPLETE, KIND_HLT, POSTED, SLOT_WORDS, SLOTS
from vmm.dispatch import Dispatcher
from vmm.hostirq import HostInterrupts
from vmm.pic import PicPair
from vmm.worldswitch import WorldSwitch

__all__ = ["Monitor"]

_COUNTERS: Final = indices(VMM)
_RAISED: Final = _COUNTERS["irqs_raised"]
_BAD: Final = _COUNTERS["bad_requests"]
_RING_WORDS: Final = SLOTS * SLOT_WORDS


class Monitor:
    """One virtual processor's monitor."""

    def __init__(
        self, station: Station, dispatcher: Dispatcher, switch: WorldSwitch, pic: PicPair, host: HostInterrupts
    ) -> None:
        self._gate = station.gate
        self._counters = station.counters
        self._bell = station.bells["vmm"]
        self._guest = station.bells["guest"]
        self._guest_pid = station.pids["guest"]
        self._wake_fd = station.fds["wake"]
        self._posted = station.settings.posted
        self._dispatcher = dispatcher
        self._switch = switch
        self._pic = pic
        self._host = host
        self._base = 0  # first word of the slot that the guest posts next

    def run(self) -> None:
        """Serves the guest for ever; the supervisor ends it."""
        gate, bell, host = self._gate, self._bell, self._host
        while True:
            base = self._base
            state = gate[base]
            if state == POSTED:
                self._trap(base)
            elif host.pending:
                self._attend()
            else:
                bell.wait(gate, base, state)

    def _trap(self, base: int) -> None:
        gate = self._gate
        key = gate[base + ring.KEY]
        bound = self._dispatcher.find(key)
        if bound is None:
            self._special(base, key)
            return
        access, statistics, is_out = bound
        started = time.monotonic_ns()
        if not is_out:
            gate[base + ring.RESULT] = access(0)
        elif self._posted:
            value = gate[base + ring.VALUE]
            self._complete(base)
            access(value)
            if self._pic.output:
                self._deliver()
            self._account(statistics + 2, statistics + 3, started)
            return
        else:
            access(gate[base + ring.VALUE])
        if self._pic.output:
            self._deliver()
        self._complete(base)
        self._account(statistics + 1 + is_out, statistics + 3, started)

    def _complete(self, base: int) -> None:
        """Gives the slot back to the guest, which waits for it, and moves on to the next."""
        gate = self._gate
        gate[base + ring.ERROR] = ring.OK
        self._base = (base + SLOT_WORDS) % _RING_WORDS
        gate[base] = COMPLETE
        self._guest.ring()

    def _account(self, accesses: int, nanoseconds: int, started: int) -> None:
        counters = self._counters
        counters[accesses] += 1
        counters[nanoseconds] += time.monotonic_ns() - started

    def _special(self, base: int, key: int) -> None:
        if key & 0xFF == KIND_HLT:
            self._halt(base)
            return
        self._counters[_BAD] += 1
        gate = self._gate
        self._base = (base + SLOT_WORDS) % _RING_WORDS
        gate[base + ring.ERROR] = ring.REFUSED
        gate[base] = COMPLETE
        self._guest.ring()

    def _halt(self, base: int) -> None:
        """HLT: the guest is idle until an interrupt is due, or until it goes on by itself (a later slot is posted).

        The guest sleeps on its wake descriptor here, together with its own network stack, not on its doorbell.
        """
        gate = self._gate
        following = (base + SLOT_WORDS) % _RING_WORDS
        sequence = gate[base + ring.SEQUENCE]
        self._host.pause()
        while not self._interrupt_due() and gate[following] != POSTED and gate[TRAP_CANCEL] != sequence:
            self._switch.idle(gate, following)
        self._host.resume()
        gate[base + ring.ERROR] = ring.OK
        self._base = following
        gate[base] = COMPLETE
        if gate[following] != POSTED:
            os.eventfd_write(self._wake_fd, 1)

    def _interrupt_due(self) -> bool:
        if self._pic.output:
            self._deliver()
        return self._gate[INTERRUPT_MAILBOX] != 0

    def _deliver(self) -> None:
        """The INTA cycle: takes the vector from the 8259 pair and posts it, unless one is still on its way."""
        gate = self._gate
        if gate[INTERRUPT_MAILBOX]:
            return
        gate[INTERRUPT_MAILBOX] = self._pic.acknowledge() + 1
        self._counters[_RAISED] += 1
        if gate[self._base] != POSTED:  # the guest is running, not waiting for a trap: interrupt it
            os.kill(self._guest_pid, IRQ_SIGNAL)

    def _attend(self) -> None:
        """A host interrupt in the VMM world: the host world gets the processor (paper section 2.0)."""
        self._switch.run(world.REASON_TICK if self._host.take() else world.REASON_IRQ)
        if self._pic.output:
            self._deliver()
