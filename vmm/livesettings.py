"""Settings that may change while the machine runs (``worldswitch set``), taken over between two traps.

All of them arrive at the vmm, which owns the moment: it runs this only while the VMM world has the processor,
so that what it writes for vmapp (``machine.world``) and for the Lance is its own to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machine import world
from machine.config import Settings
from machine.lance.regfile import RegisterFile
from machine.launch import Station
from machine.livecontrol import LiveControl
from vmm.combining import SendCombining
from vmm.dispatch import Dispatcher
from vmm.hostirq import HostInterrupts
from vmm.lanceports import LancePorts

if TYPE_CHECKING:
    from vmm.monitor import Monitor

__all__ = ["LiveSettings"]


class LiveSettings:
    """Applies a whole set of settings ({"settings": map}) and the cable's state ({"cable": bool}) to the vmm's parts.

    ``apply_waiting()`` takes one control message, with whatever else ``Station.live`` knows.
    """

    def __init__(
        self,
        station: Station,
        registers: RegisterFile,
        combining: SendCombining,
        lance: LancePorts,
        dispatcher: Dispatcher,
        host: HostInterrupts,
    ) -> None:
        self._world = station.world
        self._registers = registers
        self._combining = combining
        self._lance = lance
        self._dispatcher = dispatcher
        self._host = host
        self._monitor: Monitor | None = None
        self._apply(station.settings)
        station.live.update(settings=self._take_settings, cable=self._take_cable)
        self.apply_waiting = LiveControl(station.control, station.live).apply_waiting

    def attach(self, monitor: Monitor) -> None:
        """The monitor, which is made after this, and takes some settings itself."""
        self._monitor = monitor

    def _take_settings(self, record: Any) -> None:
        self._apply(Settings.from_map(record))

    def _take_cable(self, plugged: Any) -> None:
        self._registers.set_link(bool(plugged))

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
        self._host.set_moderation(settings.moderation_us)
        self._lance.set_mode(mode)
        self._dispatcher.rebind()
        if self._monitor is not None:
            self._monitor.halt_in_host = settings.hlt == "host"
