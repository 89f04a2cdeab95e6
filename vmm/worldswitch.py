"""The world switch: the processor leaves the VMM world for the host world and comes back (paper section 2).

While vmapp runs, the vmm waits, and the other way round. The record that passes is ``machine.world``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from machine import world
from machine.counters import VMM, indices
from machine.doorbell import eventfd_ringer
from machine.lance.state import IRQ_LEVEL
from machine.launch import Station
from machine.layout import SWITCH_SAMPLE_COUNT, SWITCHES_BACK, SWITCHES_THERE
from machine.ring import POSTED
from vmm.combining import SendCombining
from vmm.hostirq import HostInterrupts
from vmm.lines import InterruptInputs

__all__ = ["WorldSwitch"]

_COUNTERS: Final = indices(VMM)
_BY_REASON: Final = {reason: _COUNTERS[name] for reason, name in world.REASONS.items()}
_SAMPLE_MASK: Final = SWITCH_SAMPLE_COUNT - 1
_TIMED_SHIFT: Final = 2  # one switch in 2**2 is timed: a time is worth less than what it costs
_TIMED_MASK: Final = (1 << _TIMED_SHIFT) - 1
_WORLD: Final = world.WORLD
_REASON: Final = world.REASON
_KEY: Final = world.KEY
_VALUE: Final = world.VALUE
_RESULT: Final = world.RESULT
_SLOT: Final = world.SLOT
_NO_SLOT: Final = world.NO_SLOT
_IO: Final = world.REASON_IO
_RESUMED: Final = world.RESUMED
_NEXT: Final = world.NEXT
_ENTERED_NS: Final = world.ENTERED_NS
_LEFT_NS: Final = world.LEFT_NS
_HOST: Final = world.HOST_WORLD
_VMM: Final = world.VMM_WORLD


def _nothing(_slot: int) -> None:
    """Completes no slot: until the monitor has said how."""


class WorldSwitch:
    """Carries control to vmapp and back, counts and times it, and takes the Lance's INTA# line along.

    The eventfd "kick" ends vmapp's select() for an idle guest.
    """

    __slots__ = (
        "_bell",
        "_combining",
        "_counters",
        "_counts",
        "_host",
        "_kick",
        "_lance",
        "_pic",
        "_pic_line",
        "_ring_vmapp",
        "_wait",
        "_world",
        "complete",
        "count",
        "line",
        "next_slot",
        "posted",
        "resumed",
        "slot",
    )

    def __init__(
        self, station: Station, pic: InterruptInputs, pic_line: int, combining: SendCombining, host: HostInterrupts
    ) -> None:
        self._world = station.world
        self._lance = station.lance
        self._counters = station.counters
        self._bell = station.bells["vmm"]
        self._wait = self._bell.wait
        self._ring_vmapp = station.bells["vmapp"].ring
        self._kick = eventfd_ringer(station.fds["kick"])
        self._pic = pic
        self._combining = combining
        self._host = host
        self._pic_line = pic_line
        self.line = 0  # level of INTA# that the 8259 pair knows of
        self.count = 0  # switches so far
        self._counts = dict.fromkeys(_BY_REASON, 0)
        self.slot = _NO_SLOT  # the trap slot that vmapp may complete
        self.posted = _NO_SLOT  # the trap slot to complete before leaving: the device works while the guest runs on
        self.next_slot = 0  # the trap slot that the guest posts next
        self.complete: Callable[[int], None] = _nothing
        self.resumed = False  # vmapp has completed it; the caller resets this

    def io(self, key: int, value: int) -> int:
        """Has vmapp carry out one port access (``machine.ring.pack_key``); returns the value read, 0 for OUT.

        With ``slot`` set, vmapp may complete that trap slot itself; ``resumed`` then says that it has.
        """
        record = self._world
        record[_KEY] = key
        record[_VALUE] = value
        self.run(_IO)
        if self.resumed:
            return 0  # the guest has the result already
        return record[_RESULT]

    def effect(self, effect: int) -> None:
        """Has vmapp carry out the physical work that an access, itself handled in the vmm, has left."""
        record = self._world
        record[_KEY] = effect
        record[_RESULT] = 0
        self.run(world.REASON_SEND)

    def run(self, reason: int) -> None:
        """One switch there and one back; vmapp does what ``reason`` asks and looks at its TAP."""
        record = self._world
        record[_REASON] = reason
        record[_SLOT] = self.slot
        if self.posted != _NO_SLOT:
            self.complete(self.posted)
            self.posted = _NO_SLOT
        if reason != _IO:
            record[_NEXT] = self.next_slot
        host = self._host
        host.away = True
        left = monotonic_ns()
        record[_WORLD] = _HOST
        self._ring_vmapp()
        wait = self._wait
        while record[_WORLD] != _VMM:
            wait(record, _WORLD, _HOST)
        host.away = False
        if host.masked:
            host.unmask()
        self._account(left, reason)

    def idle(self, gate: memoryview, next_state: int) -> None:
        """The guest executes HLT: vmapp blocks in select() until something happens to the machine.

        Ends early for a host interrupt, and when the guest posts a trap in the slot whose state is
        ``gate[next_state]``: it went on by itself, because its own network stack had a frame to send.
        """
        record = self._world
        record[_REASON] = world.REASON_HLT
        record[_SLOT] = _NO_SLOT
        left = monotonic_ns()
        record[_WORLD] = _HOST
        self._ring_vmapp()
        kicked = False
        while record[_WORLD] != _VMM:
            state = gate[next_state]
            if kicked:
                self._wait(record, _WORLD, _HOST)
            elif state == POSTED or self._host.pending:
                self._kick()
                kicked = True
            else:
                self._bell.wait_either((record, _WORLD, _HOST), (gate, next_state, state))
        self._account(left, world.REASON_HLT)

    def _account(self, left: int, reason: int) -> None:
        """Counts a switch that is over, times every fourth, and passes INTA# on if it has changed."""
        record, counters, counts = self._world, self._counters, self._counts
        counts[reason] = counters[_BY_REASON[reason]] = counts[reason] + 1
        self.count = count = self.count + 1
        if reason == world.REASON_DMA:
            self._host.passed_over()
        else:
            self._combining.queued = 0  # vmapp has sent what waited
        timed = not count & _TIMED_MASK
        if timed:
            counters[SWITCHES_THERE + (count >> _TIMED_SHIFT & _SAMPLE_MASK)] = record[_ENTERED_NS] - left
        if record[_RESUMED]:
            record[_RESUMED] = 0
            self.resumed = True
            return
        if timed:
            counters[SWITCHES_BACK + (count >> _TIMED_SHIFT & _SAMPLE_MASK)] = monotonic_ns() - record[_LEFT_NS]
        if self._lance[IRQ_LEVEL] != self.line:
            self.sample_line()

    def sample_line(self) -> None:
        """Passes the level of the Lance's INTA# on to the interrupt controller."""
        level = self._lance[IRQ_LEVEL]
        self.line = self._world[world.LINE] = level
        self._pic.set_line(self._pic_line, level)
