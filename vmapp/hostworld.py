"""vmapp's loop: what happens in the host world between two world switches (paper sections 2.0 and 2.3).

vmapp is an ordinary program. Given the processor, it carries out what the vmm asks, looks at the host TAP
with select(), and gives the processor back. When the guest is idle it blocks in select() instead.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from machine import ring, world
from machine.counters import VMAPP, indices
from machine.lance.bits import CSR0_TDMD
from machine.lance.regfile import EFFECT_TRANSMIT, RegisterFile
from machine.lance.state import CSR, IRQ_LEVEL
from machine.launch import Station
from machine.ring import KIND_IN, unpack_key
from machine.tapend import TAP_FAILED, gone
from vmapp.lance.engine import LanceEngine
from vmapp.lance.port import HOST

__all__ = ["HostWorld"]

_COUNTERS: Final = indices(VMAPP)
_SELECTS: Final = _COUNTERS["selects"]
_HOST_NS: Final = _COUNTERS["host_world_ns"]
_SELECT_NS: Final = _COUNTERS["select_ns"]

_WORLD: Final = world.WORLD
_REASON: Final = world.REASON
_KEY: Final = world.KEY
_VALUE: Final = world.VALUE
_RESULT: Final = world.RESULT
_ENTERED_NS: Final = world.ENTERED_NS
_LEFT_NS: Final = world.LEFT_NS
_LINE: Final = world.LINE
_SLOT: Final = world.SLOT
_NEXT: Final = world.NEXT
_NOTIFICATION: Final = world.NOTIFICATION
_FRAMES_WAIT: Final = world.FRAMES_WAIT
_FRAMES_HELD: Final = world.FRAMES_HELD
_RESUMED: Final = world.RESUMED
_HOST: Final = world.HOST_WORLD
_VMM: Final = world.VMM_WORLD
_IO: Final = world.REASON_IO

_MOST_ROUNDS: Final = 1000  # of both directions before the vmm gets the processor back, come what may
_FIRST_POLL_MS: Final = 2  # the chip looks for TMDs every 1.97 ms (CSR47 = 0) ...
_LONGEST_POLL_MS: Final = 64  # ... but an idle one that keeps finding none looks less often, to stay idle
_TAP_CHECK_NS: Final = 1_000_000_000  # how often to ask whether the TAP is still there when nothing else would tell
_PATIENCE_NS: Final = 200_000_000  # how long frames wait in the TAP for a free RMD before they count as missed


class HostWorld:
    """The vmapp process's work. ``station.fds["tap"]``: the host TAP, non-blocking."""

    def __init__(
        self, station: Station, registers: RegisterFile, engine: LanceEngine, remap: Callable[[], int] = lambda: 0
    ) -> None:
        self._remap = remap  # of a foreign guest: takes changes of its memory map over; an errno, or 0
        self._world = station.world
        self._lance = station.lance
        self._counters = station.counters
        self._bell = station.bells["vmapp"]
        self._gate = station.gate
        self._vmm = station.bells["vmm"]
        self._guest = station.bells["guest"]
        self._kick_fd = station.fds["kick"]
        self._registers = registers
        self._engine = engine
        self._bound: dict[int, Callable[[int], int]] = {}
        self.tap_events = select.epoll()  # exchanged by vmapp.tracepoints
        self.tap_events.register(station.fds["tap"], select.EPOLLIN)
        self._kick = select.poll()
        self._kick.register(self._kick_fd, select.POLLIN)
        self._both = select.poll()
        self._both.register(station.fds["tap"], select.POLLIN)
        self._both.register(self._kick_fd, select.POLLIN)
        self._tap_failed = select.poll()
        self._tap_failed.register(station.fds["tap"], 0)  # POLLERR and POLLHUP are reported unasked
        self._tap_checked = 0  # when the TAP was last asked whether it is still there, ns
        self._linger_ns = station.settings.linger_us * 1000
        self._refused_since = 0  # when a frame first found no free RMD, ns; 0: none waits

    def run(self) -> None:
        """Serves the vmm for ever; the supervisor ends it."""
        record, wait, ring_vmm, bound = self._world, self._bell.wait, self._vmm.ring, self._bound
        counters, lance, gate = self._counters, self._lance, self._gate
        ring_guest = self._guest.ring
        result = spent = 0
        while True:
            while record[_WORLD] != _HOST:
                wait(record, _WORLD, _VMM)
            record[_ENTERED_NS] = entered = monotonic_ns()
            if record[_REASON] == _IO:
                key = record[_KEY]
                access = bound.get(key) or self._bind(key)
                result = access(record[_VALUE])
                if lance[CSR] & CSR0_TDMD:
                    self._send_queued()
                self._look(record)
            elif record[_REASON] == world.REASON_HLT:
                self._idle()
            elif record[_REASON] == world.REASON_DMA:
                result = self._remap()
            else:
                if record[_REASON] == world.REASON_SEND:
                    self._engine.run(record[_KEY])
                else:
                    self._engine.poll()
                self._linger(record)
                if entered - self._tap_checked > _TAP_CHECK_NS:
                    self._check_tap(entered)
            record[_LEFT_NS] = left = monotonic_ns()
            counters[_HOST_NS] = spent = spent + left - entered
            slot = record[_SLOT]
            if slot == world.NO_SLOT or lance[IRQ_LEVEL] != record[_LINE]:
                record[_RESULT] = result
                record[_WORLD] = _VMM
                ring_vmm()
            else:  # nothing is left for the vmm to do: resume the guest in its stead (machine.world)
                gate[slot + ring.RESULT] = result
                record[_RESUMED] = 1
                record[_WORLD] = _VMM
                gate[slot] = ring.COMPLETE
                ring_guest()

    def _check_tap(self, now: int) -> None:
        """Ends vmapp if the TAP was deleted: with notification, an idle stack would never ask for a frame again."""
        self._tap_checked = now
        if self._tap_failed.poll(0):
            raise gone(HOST)

    def _linger(self, record: memoryview) -> None:
        """Both directions in turn while there is work, no interrupt is due, and the guest waits for nothing.

        With ``linger_us`` it goes on looking for that long after the last frame: waking a CPU that has gone idle costs
        more than many looks. Meanwhile vmapp asks the kernel for frames itself; other programs on its CPU go first.
        """
        lance, gate = self._lance, self._gate
        last_work = 0
        for _ in range(_MOST_ROUNDS):
            busy = bool(lance[CSR] & CSR0_TDMD) and self._engine.transmit_pending  # a suspended chip keeps TDMD
            if busy:
                self._engine.run(EFFECT_TRANSMIT)
            elif last_work and self._engine.poll():
                busy = True
            if self._take_frames() if last_work else self._look(record):
                busy = True
            if lance[IRQ_LEVEL] != record[_LINE] or gate[record[_NEXT]] == ring.POSTED:
                return
            if self._linger_ns:
                now = monotonic_ns()
                if busy or not last_work:
                    last_work = now
                elif now - last_work > self._linger_ns:
                    return
                os.sched_yield()
            elif not busy:
                return

    def _look(self, record: memoryview) -> int:
        """Whether frames wait in the TAP, and if so, takes them; the number of frames taken.

        By select() at each return to the host world (section 2.3); with notification, by a word in memory that the
        vmm's interrupt handler keeps, with no system call (section 3.3.3).
        """
        if record[_NOTIFICATION]:
            if not record[_FRAMES_WAIT]:
                return 0
            record[_FRAMES_WAIT] = 0
        else:
            self._counters[_SELECTS] += 1
            if not self.tap_events.poll(0, 1):
                return 0
        return self._take_frames()

    def _send_queued(self) -> None:
        """Packets that waited for a switch (section 3.3.2), and what an earlier burst left over."""
        if self._engine.transmit_pending:
            self._engine.run(EFFECT_TRANSMIT)

    def _bind(self, key: int) -> Callable[[int], int]:
        """The function of the value written that carries out the access ``key``; bound once, used ever after."""
        kind, width, offset = unpack_key(key)
        registers, engine = self._registers, self._engine

        def read(_value: int) -> int:
            return registers.read(offset, width)

        def write(value: int) -> int:
            effect = registers.write(offset, width, value)
            if effect:
                engine.run(effect)
            return 0

        self._bound[key] = access = read if kind == KIND_IN else write
        return access

    def forget_bindings(self) -> None:
        """Accesses are bound anew, by whatever ``_bind`` is now."""
        self._bound.clear()

    def _take_frames(self) -> int:
        """Receives; frames without a free RMD stay in the TAP for a while, as in the chip's FIFO, then are missed.

        So do those that come while the guest has the chip suspended. That takes a driver as long as a few register
        accesses, on a PC too short for a frame to be lost; here an access is a thousand times as long.
        """
        engine = self._engine
        suspended = engine.suspended
        taken = 0 if suspended else engine.receive()
        if not suspended and (taken or not engine.receive_behind or not engine.listening):  # else no RMD was there
            self._refused_since = self._world[_FRAMES_HELD] = 0
            if taken and engine.receive_behind and self.tap_events.poll(0, 1):
                self._world[_FRAMES_WAIT] = self._world[_FRAMES_HELD] = 1  # nobody else will say so
            return taken
        now = monotonic_ns()
        self._world[_FRAMES_WAIT] = 1  # they are still there, and nobody else will say so
        if not self._refused_since:
            self._refused_since = now
            self._world[_FRAMES_HELD] = 1
        elif now - self._refused_since > _PATIENCE_NS:
            taken = engine.miss()
            self._refused_since = self._world[_FRAMES_HELD] = 0
        return taken

    def _idle(self) -> None:
        """The guest executed HLT: blocks in select() until a frame raises an interrupt or the vmm wants to go on.

        A line that is up already, and that the guest has masked in its 8259 pair, is no reason to return.
        """
        self._send_queued()
        if self.tap_events.poll(0, 1):
            self._take_frames()  # an answer to what was just sent shares its interrupt
        timeout = _FIRST_POLL_MS
        while self._lance[IRQ_LEVEL] == self._world[_LINE]:
            ready = self._block(timeout)
            if any(fd == self._kick_fd for fd, _ in ready):
                os.eventfd_read(self._kick_fd)
                if self._linger_ns:
                    self._serve_kick()
                return
            if ready:
                self._take_frames()
            self._send_queued()
            if self._engine.wants_poll and self._engine.poll():
                timeout = _FIRST_POLL_MS
            else:
                timeout = min(2 * timeout, _LONGEST_POLL_MS)

    def _serve_kick(self) -> None:
        """The guest went on because it has something to send: the chip finds it by itself, and perhaps an answer."""
        if self._engine.poll() and self.tap_events.poll(0, 1):
            self._take_frames()

    def _block(self, timeout_ms: int) -> list[tuple[int, int]]:
        events = self._both
        if self._refused_since:  # no free RMD: do not spin on a readable TAP
            events, timeout_ms = self._kick, _FIRST_POLL_MS
        self._counters[_SELECTS] += 1
        started = monotonic_ns()
        ready = events.poll(timeout_ms)
        self._counters[_SELECT_NS] += monotonic_ns() - started
        if not ready and self._refused_since:
            self._take_frames()
        if any(event & TAP_FAILED for _, event in ready):
            raise gone(HOST)
        return ready
