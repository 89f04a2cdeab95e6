"""Host interrupts that arrive while the VMM world runs: the NIC (SIGIO from the TAP) and the timer (SIGALRM).

A hardware interrupt in the VMM world makes the monitor give control to the host (paper section 2.0). Here
the host kernel interrupts the vmm process with a signal: SIGIO, for which the supervisor has made the vmm the
owner of the host TAP, and SIGALRM from an interval timer, which runs only while the guest is not idle.

The NIC's handler also keeps the word in shared memory that says that frames wait (section 3.3.3).
"""

from __future__ import annotations

import signal
from time import monotonic_ns
from types import FrameType
from typing import Final

from machine.counters import VMM, indices
from machine.launch import SETTINGS_SIGNAL, Station
from machine.world import FRAMES_WAIT, HOST_WORLD, LEFT_NS, RESUMED, WORLD

__all__ = ["HostInterrupts"]

_HOST_IRQS: Final = indices(VMM)["host_irqs"]
_NIC: Final = {signal.SIGIO}


class HostInterrupts:
    """``pending``: something waits for the host world; the monitor looks at it before it sleeps.

    ``tick``: the timer is among it. ``settings``: a control message is among it.
    """

    __slots__ = (
        "_bell",
        "_counters",
        "_deferred_at",
        "_hurry_vmapp",
        "_idle",
        "_last_left",
        "_moderation_ns",
        "_period",
        "_ticking",
        "_world",
        "away",
        "deferred",
        "halted",
        "masked",
        "pending",
        "settings",
        "tick",
        "timed",
    )

    def __init__(self, station: Station) -> None:
        self._bell = station.bells["vmm"]
        self._world = station.world
        self._counters = station.counters
        self._period = station.settings.tick_ms / 1000
        self._moderation_ns = station.settings.moderation_us * 1000
        self._ticking = False
        self._idle = False
        self._hurry_vmapp = station.interrupts["vmapp"]
        self._last_left = -1  # when vmapp had last given the processor back, as of a tick in the host world
        self._deferred_at = 0  # when vmapp gave the processor back, before the frame came
        self.away = False  # the monitor has left for the host world and has not taken up its work again
        self.deferred = False  # a frame has waited since a switch that was too near to force another one for it
        self.halted = False  # the processor halts in the vmm: whatever comes wakes it
        self.masked = False  # SIGIO is blocked until the host world has given the processor back
        self.pending = False
        self.tick = False
        self.timed = False  # the monitor sleeps until a deferred frame is due, and has to hear of it at once
        self.settings = False
        signal.signal(signal.SIGIO, self._on_nic)
        signal.signal(signal.SIGALRM, self._on_timer)
        signal.signal(SETTINGS_SIGNAL, self._on_settings)

    def _on_nic(self, _number: int, _frame: FrameType | None) -> None:
        world = self._world
        world[FRAMES_WAIT] = 1
        if world[WORLD] == HOST_WORLD:  # vmapp looks at the TAP before it gives the processor back
            self.masked = True  # one wake-up a stay there is enough
            signal.pthread_sigmask(signal.SIG_BLOCK, _NIC)
            return
        if self.away and not world[RESUMED]:
            if self.timed:
                self._defer()
            return  # raised while vmapp ran, and delivered only now that it has given the processor back
        if not self.halted and monotonic_ns() - world[LEFT_NS] < self._moderation_ns:
            self._defer()
            return  # as a NIC that moderates its interrupts: the next switch is near, or else the tick
        self._counters[_HOST_IRQS] += 1
        self.pending = True
        self._bell.poke()

    def _on_timer(self, _number: int, _frame: FrameType | None) -> None:
        if self._idle:  # the timer rests until the guest runs again
            self._ticking = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        if self.away:
            self._see_to_vmapp()
        self.pending = self.tick = True
        self._bell.poke()

    def _see_to_vmapp(self) -> None:
        """Interrupts a vmapp that has been in the host world since the last tick.

        It may be that the guest holds it there: vmapp wakes the guest itself (``machine.world``), by an eventfd that
        the guest holds as well, and that it can fill just before the write. A signal ends that write.
        """
        left = self._world[LEFT_NS]
        if left == self._last_left:
            self._hurry_vmapp()
        self._last_left = left

    def _on_settings(self, _number: int, _frame: FrameType | None) -> None:
        self.pending = self.settings = True
        if self._world[WORLD] == HOST_WORLD:
            self._hurry_vmapp()  # an idle guest has no ticks to see to it, and settings wait for the VMM world
        self._bell.poke()

    def begin(self) -> None:
        """The guest runs for the first time: the timer starts, wherever the guest's HLT will wait."""
        self._start_timer()

    def pause(self) -> None:
        """The guest is idle in the host world: vmapp sleeps in select() and needs nobody to tell it of frames."""
        self._idle = True
        signal.pthread_sigmask(signal.SIG_BLOCK, _NIC)

    def resume(self) -> None:
        """The guest runs again."""
        self._idle = False
        self.unmask()
        self._start_timer()

    def rest(self) -> None:
        """The guest is idle in the VMM world: the timer stops at its next tick, and each frame interrupts at once."""
        self._idle = self.halted = True

    def stir(self) -> None:
        """The guest has been heard of again."""
        self._idle = self.halted = False
        self._start_timer()

    def _start_timer(self) -> None:
        if not self._ticking:
            self._ticking = True
            signal.setitimer(signal.ITIMER_REAL, self._period, self._period)

    def _defer(self) -> None:
        """A frame waits for the next world switch."""
        self.deferred = True
        self._deferred_at = self._world[LEFT_NS]
        if self.timed:
            self._bell.poke()

    def passed_over(self) -> None:
        """A world switch is over in which vmapp has not looked at the TAP: a deferred frame waits on."""
        self._deferred_at = self._world[LEFT_NS]

    def due_in(self) -> float | None:
        """Seconds until the deferred frame may force a world switch; None if there is none, or one has seen to it."""
        if self.deferred and self._world[LEFT_NS] != self._deferred_at:
            self.deferred = False
        if not self.deferred:
            return None
        return max(0, self._deferred_at + self._moderation_ns - monotonic_ns()) / 1e9

    def unmask(self) -> None:
        """Back in the VMM world. Frames that may have come after vmapp's last look are seen at the next switch.

        That is soon under load, at once when the guest idles, and at the next tick at the latest; a switch for
        each of them would mostly find that vmapp has them already.
        """
        self.masked = False
        while signal.sigtimedwait(_NIC, 0) is not None:
            self._world[FRAMES_WAIT] = 1
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NIC)
        if self.timed:
            self._defer()

    def set_moderation(self, microseconds: int) -> None:
        """How soon after a world switch a frame may force another one."""
        self._moderation_ns = microseconds * 1000

    def set_period(self, milliseconds: int) -> None:
        """The timer's period from its next start on."""
        self._period = milliseconds / 1000
