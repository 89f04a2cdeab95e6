"""Host interrupts that arrive while the VMM world runs: the NIC (SIGIO from the TAP) and the timer (SIGALRM).

A hardware interrupt in the VMM world makes the monitor give control to the host (paper section 2.0). Here
the host kernel interrupts the vmm process with a signal: SIGIO, for which the supervisor has made the vmm the
owner of the host TAP, and SIGALRM from an interval timer, which runs only while the guest is not idle.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

from machine.counters import VMM, indices
from machine.launch import Station
from machine.world import HOST_WORLD, WORLD

__all__ = ["HostInterrupts"]

_HOST_IRQS: Final = indices(VMM)["host_irqs"]
_NIC: Final = {signal.SIGIO}


class HostInterrupts:
    """``pending``: something waits for the host world; the monitor looks at it before it sleeps."""

    __slots__ = ("_bell", "_counters", "_period", "_ticking", "_was_idle", "_world", "pending", "tick")

    def __init__(self, station: Station) -> None:
        self._bell = station.bells["vmm"]
        self._world = station.world
        self._counters = station.counters
        self._period = station.settings.tick_ms / 1000
        self._ticking = False
        self._was_idle = False
        self.pending = False
        self.tick = False
        signal.signal(signal.SIGIO, self._on_nic)
        signal.signal(signal.SIGALRM, self._on_timer)

    def _on_nic(self, _number: int, _frame: FrameType | None) -> None:
        if self._world[WORLD] == HOST_WORLD:
            return  # vmapp looks at the TAP before it gives the processor back
        self._counters[_HOST_IRQS] += 1
        self.pending = True
        self._bell.poke()

    def _on_timer(self, _number: int, _frame: FrameType | None) -> None:
        if self._was_idle:  # nothing but idling since the last tick: stop until the guest runs again
            self._ticking = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        self._was_idle = self._world[WORLD] == HOST_WORLD
        self.pending = self.tick = True
        self._bell.poke()

    def take(self) -> bool:
        """Forgets what is pending; tells whether it was the timer."""
        tick = self.tick
        self.pending = self.tick = False
        return tick

    def pause(self) -> None:
        """The guest is idle: vmapp sleeps in select() and needs nobody to tell it of frames."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _NIC)

    def resume(self) -> None:
        """The guest runs again. What arrived meanwhile has been seen by vmapp, or waits for the next tick."""
        while signal.sigtimedwait(_NIC, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NIC)
        self._was_idle = False
        if not self._ticking:
            self._ticking = True
            signal.setitimer(signal.ITIMER_REAL, self._period, self._period)
