"""The guest process: a PC with a processor, memory, a Lance driver and a network stack (its TAP)."""

from __future__ import annotations

import sys
from collections.abc import Callable

from guest.card import Card, GuestEvents
from guest.cpu import Cpu
from guest.drivers import linux22, napi
from guest.drivers.pcnet import Pcnet
from guest.interface import Interface, watch_interface
from guest.memory import GuestRam
from guest.platform import InterruptController, find_device
from guest.probe import probe
from guest.tracepoints import trace_points
from machine.lance.pci import DEVICE_ID, VENDOR_ID
from machine.launch import Station, run_role
from machine.ports import LANCE_DEFAULT_BASE
from machine.seams import Tracer

__all__ = ["main"]


def _boot(station: Station, interface: Interface) -> None:
    """Power on, probe, open, then the driver's loop for ever."""
    cpu = Cpu(station)
    interrupts = InterruptController(cpu)
    irq = find_device(cpu, VENDOR_ID, DEVICE_ID).enable(LANCE_DEFAULT_BASE)
    if station.settings.probe_rounds:
        station.control.send({"event": "running"})
        station.control.receive()  # {"command": "probe"}, once the bench has put every process on its CPU
        station.control.send({"event": "probed", **probe(cpu, station.settings.probe_rounds)})
        station.control.receive()  # the supervisor ends the stack
        return
    log_tx, log_rx = (
        (napi.LOG_TX, napi.LOG_RX) if station.settings.driver == "napi" else (linux22.LOG_TX, linux22.LOG_RX)
    )
    chip = Pcnet(cpu, GuestRam(station.ram), LANCE_DEFAULT_BASE, station.fds["tap"], station.counters, log_tx, log_rx)
    card = Card(chip, interface)
    chip_events = GuestEvents(card, station.fds["wake"])
    stack_events = GuestEvents(card, station.fds["wake"], station.fds["tap"])
    driver: napi.Napi | linux22.Linux22
    if station.settings.driver == "napi":
        driver = napi.Napi(chip, stack_events, chip_events, station.settings.linger_us, card)
    else:
        driver = linux22.Linux22(chip, stack_events, chip_events, card)
    interrupts.request(irq, driver.interrupt)
    station.live["trace"] = Tracer(station.fds.get("trace"), trace_points(cpu, chip)).switch
    card.start(station.mac)
    station.control.send({"event": "running"})
    driver.run()


def _prepare(station: Station) -> Callable[[], None]:
    interface = watch_interface(station.fds["tap"])  # now: later there is neither the privilege nor, jailed, a way
    return lambda: _boot(station, interface)


def main() -> int:
    """Runs the process from its launch record to its end; the exit status."""
    return run_role("guest", _prepare)


if __name__ == "__main__":
    sys.exit(main())
