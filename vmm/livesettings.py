"""Settings that may change while the machine runs (``worldswitch set``), taken over between two traps.

All of them arrive at the vmm, which owns the moment: it runs this only while the VMM world has the processor,
so that what it writes for vmapp (``machine.world``) and for the Lance is its own to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from machine import world
from machine.config import Settings
from machine.errors import ControlError, WorldswitchError
from machine.lance.regfile import RegisterFile
from machine.launch import Station
from vmm.combining import SendCombining
from vmm.dispatch import Dispatcher
from vmm.hostirq import HostInterrupts
from vmm.lanceports import LancePorts

if TYPE_CHECKING:
    from vmm.monitor import Monitor

__all__ = ["LiveSettings"]

_NOW: Final = 0.0


class LiveSettings:
    """Applies a whole set of settings, and the cable's state, to the parts of the vmm."""

    def __init__(
        self,
        station: Station,
        registers: RegisterFile,
        combining: SendCombining,
        lance: LancePorts,
        dispatcher: Dispatcher,
        host: HostInterrupts,
    ) -> None:
        self._control = station.control
        self._world = station.world
        self._registers = registers
        self._combining = combining
        self._lance = lance
        self._dispatcher = dispatcher
        self._host = host
        self._monitor: Monitor | None = None
        self._apply(station.settings)

    def attach(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def apply_waiting(self) -> None:
        """Takes one control message: {"settings": map} or {"cable": bool}; answers {"event": "set"}, with "refused" if not."""
        try:
            message = self._control.receive(_NOW)
        except ControlError:
            return  # the signal came from elsewhere
        if message is None:
            return
        try:
            if "settings" in message:
                self._apply(Settings.from_map(message["settings"]))
            if "cable" in message:
                self._registers.set_link(bool(message["cable"]))
        except (WorldswitchError, TypeError, KeyError) as error:
            self._control.send({"event": "set", "refused": str(error)})
        else:
            self._control.send({"event": "set"})

    def _apply(self, settings: Settings) -> None:
        mode = settings.optimisations
        combining = self._combining
        combining.enabled = mode.combining
        combining.active = combining.active and mode.combining
        combining.threshold = settings.combine_threshold
        combining.decay = settings.combine_decay
        combining.cap = settings.combine_cap
        self._world[world.NOTIFICATION] = int(mode.notification)
        self._world[world.FRAMES_WAIT] = 1  # whoever has relied on select() so far looks once more
        self._host.set_period(settings.tick_ms)
        self._lance.set_mode(mode)
        self._dispatcher.rebind()
        if self._monitor is not None:
            self._monitor.halt_in_host = settings.hlt == "host"
