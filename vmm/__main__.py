"""The vmm process: takes the guest's traps, owns the interrupt controller, switches worlds."""

from __future__ import annotations

import sys
from collections.abc import Callable

from machine.counters import VMM, indices
from machine.lance.pci import INTERRUPT_LINE
from machine.lance.regfile import RegisterFile
from machine.launch import Station, run_role
from machine.portmap import PortMap
from machine.ports import LANCE_IRQ
from machine.seams import Tracer
from vmm.combining import SendCombining
from vmm.dispatch import Dispatcher
from vmm.hostirq import HostInterrupts
from vmm.lanceports import LancePorts
from vmm.lanceslot import LANCE_SLOT, LanceSlot
from vmm.livesettings import LiveSettings
from vmm.monitor import Monitor
from vmm.pci import PciBus
from vmm.pic import PicPair
from vmm.tracepoints import trace_points
from vmm.worldswitch import WorldSwitch

__all__ = ["main"]

_UNCLAIMED = indices(VMM)["io_unclaimed"]


def _prepare(station: Station) -> Callable[[], None]:
    if station.settings.foreign:
        from vmm.foreign.setup import prepare  # what the built-in guest needs nothing of

        return prepare(station)
    counters = station.counters

    def count_unclaimed() -> None:
        counters[_UNCLAIMED] += 1

    registers = RegisterFile(station.lance)
    registers.power_on(station.mac)
    registers.config_write(INTERRUPT_LINE, 1, LANCE_IRQ)  # as a BIOS leaves it
    ports = PortMap()
    pic = PicPair()
    pic.claim_on(ports)
    settings = station.settings
    combining = SendCombining(
        settings.optimisations.combining, settings.combine_threshold, settings.combine_decay, settings.combine_cap
    )
    host = HostInterrupts(station)
    switch = WorldSwitch(station, pic, LANCE_IRQ, combining, host)
    dispatcher = Dispatcher(ports, counters, count_unclaimed)
    lance = LancePorts(station, registers, switch, combining)
    bus = PciBus()
    bus.attach(LANCE_SLOT, LanceSlot(registers, ports, lance, dispatcher.rebind))
    bus.claim_on(ports)
    live = LiveSettings(station, registers, combining, lance, dispatcher, host)
    monitor = Monitor(station, dispatcher, switch, pic, host, combining, live.apply_waiting)
    live.attach(monitor)
    station.live["trace"] = Tracer(station.fds.get("trace"), trace_points(monitor, switch)).switch
    return monitor.run


def main() -> int:
    """Runs the process from its launch record to its end; the exit status."""
    return run_role("vmm", _prepare)


if __name__ == "__main__":
    sys.exit(main())
