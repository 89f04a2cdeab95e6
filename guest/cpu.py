"""The guest's processor: IN, OUT and HLT as synchronous traps, and interrupts that arrive at any moment.

A port access stores a request in the trap ring, rings the vmm and waits: one round trip, as on hardware.
An interrupt comes from the vmm as a vector in the interrupt mailbox. The processor looks there at the end of
every trap and when interrupts are switched on again; a guest that is busy between traps is told by signal.
Either way the handler runs between two instructions of the code it interrupts, with interrupts off.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from guest.events import Events
from machine import ring, signalpipe
from machine.counters import GUEST, indices
from machine.errors import ControlError
from machine.launch import IRQ_SIGNAL, Station
from machine.layout import INTERRUPT_MAILBOX, RAP_PORT, RAP_STORE, TRAP_CANCEL
from machine.ring import COMPLETE, FREE, KIND_HLT, KIND_IN, KIND_OUT, POSTED, RING_WORDS, SLOT_WORDS
from machine.wiring import interrupt

__all__ = ["Cpu", "InterruptHandler"]

InterruptHandler = Callable[[], None]

_COUNTERS: Final = indices(GUEST)
_HLT: Final = _COUNTERS["hlt"]
_IDLE_NS: Final = _COUNTERS["idle_ns"]
_DELIVERED: Final = _COUNTERS["irqs_delivered"]
_BY_SIGNAL: Final = _COUNTERS["irqs_by_signal"]
_RAP_STORES: Final = _COUNTERS["rap_stores"]
_RAP_MASK: Final = 0x7F
_KEY: Final = ring.KEY
_VALUE: Final = ring.VALUE
_RESULT: Final = ring.RESULT
_ERROR: Final = ring.ERROR
_SEQUENCE: Final = ring.SEQUENCE
_HLT_KEY: Final = ring.pack_key(KIND_HLT, 0, 0)


class Cpu:
    """One processor. Interrupts are off after reset; ``set_gate`` says who handles a vector."""

    __slots__ = (
        "_base",
        "_counters",
        "_enabled",
        "_gate",
        "_gates",
        "_in_trap",
        "_irq_fd",
        "_ring_vmm",
        "_sequence",
        "_wait",
        "_wake_fd",
    )

    def __init__(self, station: Station) -> None:
        self._gate = station.gate
        self._counters = station.counters
        self._wait = station.bells["guest"].wait
        self._ring_vmm = station.bells["vmm"].ring
        self._wake_fd = station.fds["wake"]
        self._irq_fd = station.fds[interrupt("guest")]
        self._gates: dict[int, InterruptHandler] = {}
        self._base = 0
        self._sequence = 0
        self._enabled = False
        self._in_trap = False
        signal.signal(IRQ_SIGNAL, self._on_signal)

    def set_gate(self, vector: int, handler: InterruptHandler) -> None:
        """The interrupt descriptor table: ``handler`` runs, interrupts off, when ``vector`` is delivered."""
        self._gates[vector] = handler

    # -- port accesses: width in bytes -----------------------------------------------------------------

    def read_port(self, port: int, width: int) -> int:
        """IN: the value, of ``width`` (1, 2 or 4) bytes."""
        if self._gate[RAP_PORT] == width << 16 | port:
            return self._load_rap()
        return self._trap(KIND_IN | width << 8 | port << 16, 0)

    def write_port(self, port: int, width: int, value: int) -> None:
        """OUT."""
        if self._gate[RAP_PORT] == width << 16 | port:
            self._store_rap(value)
            return
        self._trap(KIND_OUT | width << 8 | port << 16, value)

    def _trap(self, key: int, value: int) -> int:
        gate, base = self._gate, self._base
        self._in_trap = True
        if gate[base]:  # still the slot of a HLT from one turn of the ring ago
            self._reclaim(base)
        gate[base + _VALUE] = value
        gate[base + _SEQUENCE] = self._sequence = self._sequence + 1
        gate[base + _KEY] = key
        gate[base] = POSTED
        self._ring_vmm()
        wait = self._wait
        while gate[base] != COMPLETE:
            wait(gate, base, POSTED)
        result = gate[base + _RESULT]
        if gate[base + _ERROR]:
            self._refused(base, key)
        gate[base] = FREE
        self._base = (base + SLOT_WORDS) % RING_WORDS
        self._in_trap = False
        if gate[INTERRUPT_MAILBOX] and self._enabled:
            self._take_interrupts()
        return result

    def _refused(self, base: int, key: int) -> None:
        self._gate[base + _ERROR] = ring.OK
        raise ControlError(f"the vmm refused trap request {key:#x}")

    def _reclaim(self, base: int) -> None:
        """The vmm completes in order, so a slot met again after a whole turn is long complete."""
        gate = self._gate
        while gate[base] != COMPLETE:
            self._wait(gate, base, POSTED)
        gate[base] = FREE

    # -- RAP as plain memory: the vmm has translated the instruction into a MOV (paper section 3.3.1) -----

    def _store_rap(self, value: int) -> None:
        self._gate[RAP_STORE] = value & _RAP_MASK
        self._counters[_RAP_STORES] += 1

    def _load_rap(self) -> int:
        self._counters[_RAP_STORES] += 1
        return self._gate[RAP_STORE] & _RAP_MASK

    # -- interrupts ---------------------------------------------------------------------------------------

    def cli(self) -> None:
        """Interrupts off: what arrives stays in the mailbox."""
        self._enabled = False

    def sti(self) -> None:
        """Interrupts on; a waiting one is taken at once."""
        self._enabled = True
        if self._gate[INTERRUPT_MAILBOX]:
            self._take_interrupts()

    def _take_interrupts(self) -> None:
        gate, counters = self._gate, self._counters
        while posted := gate[INTERRUPT_MAILBOX]:
            self._enabled = False
            gate[INTERRUPT_MAILBOX] = 0
            counters[_DELIVERED] += 1
            handler = self._gates.get(posted - 1)
            if handler is not None:
                handler()
            self._enabled = True  # IRET

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        signalpipe.drain(self._irq_fd)  # before the look at the mailbox
        if self._enabled and not self._in_trap and self._gate[INTERRUPT_MAILBOX]:
            self._counters[_BY_SIGNAL] += 1
            self._take_interrupts()

    # -- HLT ------------------------------------------------------------------------------------------------

    def hlt(self, events: Events) -> None:
        """STI; HLT: sleeps until an interrupt is delivered or ``events`` (poll, in ms) reports a guest event.

        ``events`` must have the wake descriptor registered. A guest event is one inside the guest machine
        itself: its network stack has a frame to send.
        """
        self._in_trap = True  # an interrupt that arrives from here on is taken below, after the wait
        gate, base = self._gate, self._base
        if gate[INTERRUPT_MAILBOX]:
            self._in_trap = False
            self.sti()
            return
        started = time.monotonic_ns()
        if gate[base]:
            self._reclaim(base)
        gate[base + _SEQUENCE] = self._sequence = self._sequence + 1
        gate[base + _KEY] = _HLT_KEY
        gate[base] = POSTED
        self._ring_vmm()
        self._base = (base + SLOT_WORDS) % RING_WORDS
        self._sleep(events, base)
        self._counters[_HLT] += 1
        self._counters[_IDLE_NS] += time.monotonic_ns() - started
        self._in_trap = False
        self.sti()

    def _sleep(self, events: Events, base: int) -> None:
        gate, wake_fd = self._gate, self._wake_fd
        while gate[base] != COMPLETE:
            ready = events.poll()
            if any(fd != wake_fd for fd, _ in ready):
                gate[TRAP_CANCEL] = gate[base + _SEQUENCE]
                return  # the slot is met again, and by then complete, after a turn of the ring
            os.eventfd_read(wake_fd)
        gate[base] = FREE
