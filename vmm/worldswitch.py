"""The world switch: the processor leaves the VMM world for the host world and comes back (paper section 2).

While vmapp runs, the vmm waits, and the other way round. The record that passes is ``machine.world``.
"""

from __future__ import annotations

import os
import time

from machine import world
from machine.counters import VMM, indices
from machine.lance.state import IRQ_LEVEL
from machine.launch import Station
from machine.layout import SWITCH_SAMPLE_COUNT, SWITCH_SAMPLES
from machine.ring import POSTED
from vmm.pic import PicPair

__all__ = ["WorldSwitch"]

_COUNTERS = indices(VMM)
_SWITCHES = _COUNTERS["world_switches"]
_HOST_NS = _COUNTERS["host_world_ns"]
_BY_REASON = {reason: _COUNTERS[name] for reason, name in world.REASONS.items()}
_IO = _BY_REASON[world.REASON_IO]
_IO_SWITCHED = _COUNTERS["io_switched"]


class WorldSwitch:
    """Carries control to vmapp and back, counts and times it, and takes the Lance's INTA# line along.

    ``kick_fd``: the eventfd that ends vmapp's select() for an idle guest.
    """

    __slots__ = ("_bell", "_counters", "_kick_fd", "_lance", "_line", "_pic", "_pic_line", "_vmapp", "_world")

    def __init__(self, station: Station, pic: PicPair, pic_line: int) -> None:
        self._world = station.world
        self._lance = station.lance
        self._counters = station.counters
        self._bell = station.bells["vmm"]
        self._vmapp = station.bells["vmapp"]
        self._kick_fd = station.fds["kick"]
        self._pic = pic
        self._pic_line = pic_line
        self._line = 0

    def io(self, key: int, value: int) -> int:
        """Has vmapp carry out one port access (``machine.ring.pack_key``); returns the value read, 0 for OUT."""
        record = self._world
        record[world.KEY] = key
        record[world.VALUE] = value
        self._counters[_IO_SWITCHED] += 1
        self.run(world.REASON_IO)
        return record[world.RESULT]

    def run(self, reason: int) -> None:
        """One switch there and one back; vmapp does what ``reason`` asks and looks at its TAP."""
        record = self._world
        left = self._leave(reason)
        bell = self._bell
        while record[world.WORLD] != world.VMM_WORLD:
            bell.wait(record, world.WORLD, world.HOST_WORLD)
        self._back(left, reason)

    def idle(self, gate: memoryview, next_state: int) -> None:
        """The guest executes HLT: vmapp blocks in select() until something happens to the machine.

        Ends early when the guest posts a trap in the slot whose state is ``gate[next_state]``: it went on by
        itself, because its own network stack had a frame to send.
        """
        record = self._world
        left = self._leave(world.REASON_HLT)
        kicked = False
        while record[world.WORLD] != world.VMM_WORLD:
            state = gate[next_state]
            if kicked:
                self._bell.wait(record, world.WORLD, world.HOST_WORLD)
            elif state == POSTED:
                os.eventfd_write(self._kick_fd, 1)
                kicked = True
            else:
                self._bell.wait_either((record, world.WORLD, world.HOST_WORLD), (gate, next_state, state))
        self._back(left, world.REASON_HLT)

    def _leave(self, reason: int) -> int:
        record = self._world
        record[world.REASON] = reason
        left = time.monotonic_ns()
        record[world.WORLD] = world.HOST_WORLD
        self._vmapp.ring()
        return left

    def _back(self, left: int, reason: int) -> None:
        back = time.monotonic_ns()
        record = self._world
        counters = self._counters
        count = counters[_SWITCHES]
        counters[_SWITCHES] = count + 1
        counters[_BY_REASON[reason]] += 1
        counters[_HOST_NS] += back - left
        spent = record[world.ENTERED_NS] - left + back - record[world.LEFT_NS]
        counters[SWITCH_SAMPLES + (count & SWITCH_SAMPLE_COUNT - 1)] = spent
        self.sample_line()

    def sample_line(self) -> None:
        """Passes the level of the Lance's INTA# on to the 8259 pair, if it has changed."""
        level = self._lance[IRQ_LEVEL]
        if level != self._line:
            self._line = level
            self._pic.set_line(self._pic_line, level)
