"""vmapp's loop: what happens in the host world between two world switches (paper sections 2.0 and 2.3).

vmapp is an ordinary program. Given the processor, it carries out what the vmm asks, looks at the host TAP
with select(), and gives the processor back. When the guest is idle it blocks in select() instead.
"""

from __future__ import annotations

import os
import select
import time
from typing import Final

from machine import world
from machine.counters import VMAPP, indices
from machine.lance.regfile import RegisterFile
from machine.lance.state import IRQ_LEVEL
from machine.launch import Station
from machine.ring import KIND_IN, unpack_key
from vmapp.lance.engine import LanceEngine

__all__ = ["HostWorld"]

_COUNTERS: Final = indices(VMAPP)
_SELECTS: Final = _COUNTERS["selects"]
_SELECT_NS: Final = _COUNTERS["select_ns"]

_FIRST_POLL_MS: Final = 2  # the chip looks for TMDs every 1.97 ms (CSR47 = 0) ...
_LONGEST_POLL_MS: Final = 64  # ... but an idle one that keeps finding none looks less often, to stay idle
_PATIENCE_NS: Final = 10_000_000  # how long frames wait in the TAP for a free RMD before they count as missed


class HostWorld:
    """The vmapp process's work. ``tap_fd``: the host TAP, non-blocking."""

    def __init__(self, station: Station, registers: RegisterFile, engine: LanceEngine) -> None:
        self._world = station.world
        self._lance = station.lance
        self._counters = station.counters
        self._bell = station.bells["vmapp"]
        self._vmm = station.bells["vmm"]
        self._kick_fd = station.fds["kick"]
        self._registers = registers
        self._engine = engine
        self._tap = select.poll()
        self._tap.register(station.fds["tap"], select.POLLIN)
        self._kick = select.poll()
        self._kick.register(self._kick_fd, select.POLLIN)
        self._both = select.poll()
        self._both.register(station.fds["tap"], select.POLLIN)
        self._both.register(self._kick_fd, select.POLLIN)
        self._refused_since = 0  # when a frame first found no free RMD, ns; 0: none waits

    def run(self) -> None:
        """Serves the vmm for ever; the supervisor ends it."""
        record, bell = self._world, self._bell
        while True:
            while record[world.WORLD] != world.HOST_WORLD:
                bell.wait(record, world.WORLD, world.VMM_WORLD)
            record[world.ENTERED_NS] = time.monotonic_ns()
            reason = record[world.REASON]
            if reason == world.REASON_IO:
                self._access(record)
            elif reason == world.REASON_HLT:
                self._idle()
            else:
                self._engine.poll()
            self._look()
            record[world.LEFT_NS] = time.monotonic_ns()
            record[world.WORLD] = world.VMM_WORLD
            self._vmm.ring()

    def _access(self, record: memoryview) -> None:
        kind, width, offset = unpack_key(record[world.KEY])
        if kind == KIND_IN:
            record[world.RESULT] = self._registers.read(offset, width)
            return
        record[world.RESULT] = 0
        effect = self._registers.write(offset, width, record[world.VALUE])
        if effect:
            self._engine.run(effect)

    def _look(self) -> None:
        """select() on the host TAP at each return to the host world; frames go into the receive ring."""
        self._counters[_SELECTS] += 1
        if self._tap.poll(0):
            self._take_frames()

    def _take_frames(self) -> None:
        """Receives; frames that find no free RMD stay in the TAP for a while, as in the chip's FIFO, then are missed."""
        engine = self._engine
        if engine.receive():
            self._refused_since = 0
            return
        now = time.monotonic_ns()
        if not self._refused_since:
            self._refused_since = now
        elif now - self._refused_since > _PATIENCE_NS:
            engine.miss()
            self._refused_since = 0

    def _idle(self) -> None:
        """The guest executed HLT: blocks in select() until a frame raises an interrupt or the vmm wants to go on."""
        timeout = _FIRST_POLL_MS
        while not self._lance[IRQ_LEVEL]:
            ready = self._block(timeout)
            if any(fd == self._kick_fd for fd, _ in ready):
                os.eventfd_read(self._kick_fd)
                return
            if ready:
                self._take_frames()
            if self._engine.transmit_pending or (self._engine.wants_poll and self._engine.poll()):
                timeout = _FIRST_POLL_MS
            else:
                timeout = min(2 * timeout, _LONGEST_POLL_MS)

    def _block(self, timeout_ms: int) -> list[tuple[int, int]]:
        events = self._both
        if self._refused_since:  # no free RMD: do not spin on a readable TAP
            events, timeout_ms = self._kick, _FIRST_POLL_MS
        self._counters[_SELECTS] += 1
        started = time.monotonic_ns()
        ready = events.poll(timeout_ms)
        self._counters[_SELECT_NS] += time.monotonic_ns() - started
        if not ready and self._refused_since:
            self._take_frames()
        return ready
