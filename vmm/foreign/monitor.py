"""The monitor of a guest behind a socket: takes the client's requests and the host's interrupts, one at a time.

What the built-in guest says with HLT, this one does not say: it is idle when nothing has been heard of it for some
ticks. Then the timer stops, and the stack sleeps until a frame or a request comes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, Protocol

from machine import world
from machine.lance.regfile import EFFECT_TRANSMIT
from machine.launch import Station
from vmm.combining import SendCombining
from vmm.foreign.bell import ClientBell
from vmm.foreign.function import LanceFunction
from vmm.foreign.line import SILENCE_NS, ClientLine
from vmm.hostirq import HostInterrupts
from vmm.worldswitch import WorldSwitch

__all__ = ["ForeignMonitor", "Requests"]

_QUIET_TICKS: Final = 5  # without a request: the guest is idle
_POLL_SECONDS: Final = 0.064  # how often an idle guest's chip looks for TMDs by itself (vmapp.hostworld, too)
_HELD_SECONDS: Final = 0.0005  # how soon to look again for a free RMD for frames that wait in the TAP
_IDLE_NS: Final = 400_000  # a guest that has been silent for so long sends nothing more: no packet waits for another
_HELD_NS: Final = 100_000  # a request sooner after a switch than this does not force another one for them
_CLIENT_WAITS_NS: Final = 5_000_000_000  # QEMU, for an answer: x-msg-timeout of its vfio-user-pci
_LEFT_NS: Final = world.LEFT_NS
_HELD: Final = world.FRAMES_HELD


class Requests(Protocol):
    """What is needed of ``vmm.vfiouser.server.Server``."""

    changed: int

    @property
    def pending(self) -> bool:
        """Whether there is a message to carry out that poll() does not see."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to wait for."""

    def due_in(self) -> float | None:
        """Seconds until ``step`` has something to do even if nothing comes; None: it has not."""

    def step(self) -> bool:
        """One piece of work; False if there is none."""


class ForeignMonitor:
    """``attached`` is called once, when the first client has asked for anything; ``log`` takes one line."""

    def __init__(
        self,
        station: Station,
        server: Requests,
        function: LanceFunction,
        line: ClientLine,
        bell: ClientBell,
        switch: WorldSwitch,
        host: HostInterrupts,
        combining: SendCombining,
        apply_settings: Callable[[], None],
        attached: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self._world = station.world
        self._server = server
        self._function = function
        self._line = line
        self._bell = bell
        self._switch = switch
        self._host = host
        self._combining = combining
        self._apply_settings = apply_settings
        self._attached: Callable[[], None] | None = attached
        self._log = log
        self._looked_ns = monotonic_ns()
        self._linger_ns = station.settings.linger_us * 1000
        self._near = False  # a request is likely to come soon: there has just been one, or an interrupt
        self._changed = -1
        self._heard = 0  # requests as of the last tick
        self._quiet = 0  # ticks since
        self._resting = True
        host.timed = True
        host.rest()

    def run(self) -> None:
        """Serves clients for ever; the supervisor ends it."""
        host, server, bell, line = self._host, self._server, self._bell, self._line
        while True:
            self._note_silence()
            if host.pending:
                self._attend()
            line.look()
            bell.attended()
            if (server.pending or self._heard_client()) and server.step():
                self._after_request()

    def _note_silence(self) -> None:
        """Says so when this process, or vmapp for which it waited, was silent for longer than a client waits.

        Between two rounds there is a sleep of 64 ms at most, or one that the timer ends. More means that one of the two
        was stopped, or did not get a CPU; QEMU has then taken the card for dead, without a word about why.
        """
        now = monotonic_ns()
        if now - self._looked_ns > _CLIENT_WAITS_NS:
            seconds = (now - self._looked_ns) / 1e9
            self._log(f"nobody was answered for {seconds:.0f} s: vmm or vmapp was stopped; QEMU gives up after 5 s")
        self._looked_ns = now

    def _heard_client(self) -> bool:
        """Waits for whatever comes first; whether it may be a request.

        A message is read when it is known to be there, not to find out.
        """
        if self._near:
            if self._linger():
                return True
            if self._host.pending:
                return False
            self._near = False
        if self._line.owed_ns:  # still, if it lingers shorter than a silence is
            if not self._bell.sleep(SILENCE_NS / 1e9):
                self._line.repay()
        elif self._combining.queued:
            if not self._bell.sleep(_IDLE_NS / 1e9):
                self._switch.effect(EFFECT_TRANSMIT)
        else:
            self._sleep()
        return self._bell.wanted

    def _linger(self) -> bool:
        """Looks for the next request for a while, for waking a CPU costs more than many looks; whether there is one."""
        started = now = monotonic_ns()
        while now - started < self._linger_ns:
            if self._bell.look():
                return True
            if self._host.pending:
                return False
            if now - started > SILENCE_NS:
                self._line.repay()
                if now - started > _IDLE_NS and self._combining.queued:
                    self._switch.effect(EFFECT_TRANSMIT)
            os.sched_yield()
            now = monotonic_ns()
        return False

    def _after_request(self) -> None:
        self._near = True
        self._line.count()
        self._watch_client()
        if self._resting:
            self._resting = False
            self._quiet = 0
            self._host.stir()
        if self._attached is not None and self._function.traps:
            self._attached()
            self._attached = None
        if self._world[_HELD] and monotonic_ns() - self._world[_LEFT_NS] > _HELD_NS:
            self._switch.run(world.REASON_IRQ)  # the request may have been the end of the guest's interrupt handling

    def _watch_client(self) -> None:
        """The bell waits for the descriptors that the server has now."""
        if self._server.changed != self._changed:
            self._changed = self._server.changed
            self._bell.watch(self._server.descriptors)

    def _attend(self) -> None:
        """A host interrupt, as in ``vmm.monitor``."""
        host = self._host
        host.pending = False
        if host.settings:
            host.settings = False
            self._apply_settings()  # and then look: a frame may have come at the same moment, and says so but once
        if host.tick:
            host.tick = False
            self._tick()
        else:
            self._switch.run(world.REASON_IRQ)
            self._near = self._near or bool(self._switch.line)

    def _tick(self) -> None:
        self._combining.tick(self._switch.count)
        self._switch.run(world.REASON_TICK)
        heard = self._function.traps
        self._quiet = self._quiet + 1 if heard == self._heard else 0
        self._heard = heard
        if self._quiet >= _QUIET_TICKS:
            self._resting = True
            self._host.rest()

    def _sleep(self) -> None:
        """Until something happens, or something that nobody tells of may have happened."""
        seconds = self._host.due_in()
        if self._world[_HELD]:
            seconds = _HELD_SECONDS if seconds is None else min(seconds, _HELD_SECONDS)
        if seconds is None and self._resting:  # no tick makes the chip look
            seconds = _POLL_SECONDS
        self._watch_client()
        due = self._server.due_in()
        if due is not None and (seconds is None or due < seconds):  # its own affair: no reason to look at the TAP
            if not self._bell.sleep(due):
                self._server.step()
            return
        if not self._bell.sleep(seconds):
            if self._resting:
                self._bell.hurry()  # a look of an idle machine finds nothing as a rule
            self._host.deferred = False
            self._switch.run(world.REASON_IRQ)
