"""The monitor's loop: takes traps, has them carried out, delivers interrupts, hands host events over.

It runs whenever the guest has left direct execution, or when a host interrupt arrives in the VMM world; else
it sleeps on its doorbell and the guest has the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from machine import ring, world
from machine.counters import VMM, indices
from machine.doorbell import eventfd_ringer
from machine.launch import Station
from machine.layout import INTERRUPT_MAILBOX, TRAP_CANCEL
from machine.ring import COMPLETE, KIND_HLT, POSTED, RING_WORDS, SLOT_WORDS
from vmm.combining import SendCombining
from vmm.dispatch import Bound, Dispatcher
from vmm.hostirq import HostInterrupts
from vmm.pic import PicPair
from vmm.worldswitch import WorldSwitch

__all__ = ["Monitor"]

_COUNTERS: Final = indices(VMM)
_RAISED: Final = _COUNTERS["irqs_raised"]
_BAD: Final = _COUNTERS["bad_requests"]
_KEY: Final = ring.KEY
_VALUE: Final = ring.VALUE
_RESULT: Final = ring.RESULT
_NO_SLOT: Final = world.NO_SLOT
_LEFT_NS: Final = world.LEFT_NS


class Monitor:
    """One virtual processor's monitor. ``apply_settings`` is called at a safe point when a control message waits."""

    def __init__(
        self,
        station: Station,
        dispatcher: Dispatcher,
        switch: WorldSwitch,
        pic: PicPair,
        host: HostInterrupts,
        combining: SendCombining,
        apply_settings: Callable[[], None],
    ) -> None:
        self._gate = station.gate
        self._world = station.world
        self._counters = station.counters
        self._bell = station.bells["vmm"]
        self._ring_guest = station.bells["guest"].ring
        self._interrupt_guest = station.interrupts["guest"]
        self._wake_guest = eventfd_ringer(station.fds["wake"])
        self._posted = station.settings.posted
        self._dispatcher = dispatcher
        self._bound = dispatcher.bound
        self._switch = switch
        switch.complete = self._complete
        self._pic = pic
        self._host = host
        self._combining = combining
        self._apply_settings = apply_settings
        self.halt_in_host = station.settings.hlt == "host"
        self._base = 0  # first word of the slot that the guest posts next

    def run(self) -> None:
        """Serves the guest for ever; the supervisor ends it."""
        gate, wait, host = self._gate, self._bell.wait, self._host
        host.begin()
        while True:
            base = self._base
            state = gate[base]
            if state == POSTED:
                self._trap(base)
            elif host.pending:
                self._attend()
            else:
                wait(gate, base, state)

    def _trap(self, base: int) -> None:
        gate = self._gate
        bound = self._bound.get(gate[base + _KEY]) or self._dispatcher.find(gate[base + _KEY])
        if bound is None:
            self._special(base, gate[base + _KEY])
            return
        access, statistics, is_out, leaves = bound
        if leaves:
            self._trap_away(base, bound)
            return
        started = monotonic_ns()
        gate[base + _RESULT] = access(gate[base + _VALUE])
        if self._pic.output:
            self._deliver()
        self._complete(base)
        counters = self._counters
        counters[statistics + 1 + is_out] += 1
        counters[statistics + 3] += monotonic_ns() - started

    def _trap_away(self, base: int, bound: Bound) -> None:
        """An access that may take the processor to the host world."""
        gate, switch, counters = self._gate, self._switch, self._counters
        access, statistics, is_out, _ = bound
        started = monotonic_ns()
        if is_out and self._posted:
            switch.posted = base  # a world switch, if there is one, lets the guest go first
        else:
            switch.slot = base
        result = access(gate[base + _VALUE])
        switch.slot = switch.posted = _NO_SLOT
        counters[statistics + 1 + is_out] += 1
        if switch.resumed:  # vmapp has completed the slot, and no interrupt is due
            switch.resumed = False
            self._base = switch.next_slot = (base + SLOT_WORDS) % RING_WORDS
            counters[statistics + 3] += self._world[_LEFT_NS] - started
            return
        if self._pic.output:
            self._deliver()
        if self._base == base:
            gate[base + _RESULT] = result
            self._complete(base)
        counters[statistics + 3] += monotonic_ns() - started

    def _complete(self, base: int) -> None:
        """Gives the slot back to the guest, which waits for it, and moves on to the next."""
        self._base = self._switch.next_slot = (base + SLOT_WORDS) % RING_WORDS
        self._gate[base] = COMPLETE
        self._ring_guest()

    def _special(self, base: int, key: int) -> None:
        if key & 0xFF == KIND_HLT and ring.is_valid_key(key):
            self._halt(base)
            return
        self._counters[_BAD] += 1
        self._gate[base + ring.ERROR] = ring.REFUSED  # the guest resets it
        self._complete(base)

    def _halt(self, base: int) -> None:
        """HLT: the guest is idle until an interrupt is due, or until it goes on by itself (a later slot is posted).

        The guest sleeps on its wake descriptor here, together with its own network stack, not on its doorbell.
        """
        gate = self._gate
        following = (base + SLOT_WORDS) % RING_WORDS
        sequence = gate[base + ring.SEQUENCE]
        in_host = self.halt_in_host
        if in_host:
            self._host.pause()
        while not self._interrupt_due() and gate[following] != POSTED and gate[TRAP_CANCEL] != sequence:
            if self._host.pending:
                self._attend()
            elif in_host:
                self._switch.idle(gate, following)
            else:
                self._halt_here(gate, following)
        if in_host:
            self._host.resume()
        self._base = self._switch.next_slot = following
        gate[base] = COMPLETE
        if gate[following] != POSTED:
            self._wake_guest()

    def _halt_here(self, gate: memoryview, following: int) -> None:
        """HLT as the paper measures it (section 3.5): the processor halts in the vmm until a hardware interrupt."""
        host = self._host
        host.halted = True
        if self._combining.queued or host.deferred:
            host.deferred = False
            self._switch.effect(0)  # no work of its own, but every switch sends and receives what waits
        elif gate[following] != POSTED and not host.pending:
            self._bell.wait(gate, following, gate[following])
        host.halted = False

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
            self._interrupt_guest()

    def _attend(self) -> None:
        """A host interrupt in the VMM world: the host world gets the processor (paper section 2.0)."""
        host = self._host
        host.pending = False
        if host.settings:
            host.settings = False
            self._apply_settings()  # and then look: a frame may have come at the same moment, and says so but once
        if host.tick:
            host.tick = False
            self._combining.tick(self._switch.count)
            self._switch.run(world.REASON_TICK)
        else:
            self._switch.run(world.REASON_IRQ)
        if self._pic.output:
            self._deliver()
