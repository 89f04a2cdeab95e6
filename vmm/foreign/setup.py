"""Puts the vmm of a foreign guest together: the same switch, dispatcher, modes and interrupts, another door."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable

from machine.counters import VMM, indices
from machine.dma import DmaChannel
from machine.lance.regfile import RegisterFile
from machine.launch import Station
from machine.portmap import PortMap
from machine.ports import LANCE_IRQ
from machine.seams import Tracer
from machine.trouble import Trouble
from vmm.combining import SendCombining
from vmm.dispatch import Dispatcher
from vmm.foreign.bell import ClientBell, signal_pipe
from vmm.foreign.function import LanceFunction
from vmm.foreign.line import ClientLine
from vmm.foreign.monitor import ForeignMonitor
from vmm.foreign.tracepoints import trace_points
from vmm.foreign.windows import ClientWindows
from vmm.hostirq import HostInterrupts
from vmm.lanceports import LancePorts
from vmm.livesettings import LiveSettings
from vmm.vfiouser.server import Server
from vmm.worldswitch import WorldSwitch

__all__ = ["prepare"]

_UNCLAIMED = indices(VMM)["io_unclaimed"]


def prepare(station: Station) -> Callable[[], None]:
    """The vmm's loop, for a guest that comes through the listening socket ``station.fds["listener"]``."""
    bell = ClientBell(station.fds["bell-vmm"], station.gate, signal_pipe())
    station.bells["vmm"] = bell
    registers = RegisterFile(station.lance)
    registers.power_on(station.mac)
    combining = _combining(station)
    host = HostInterrupts(station)
    line = ClientLine(station.counters, station.lance, combining)
    switch = WorldSwitch(station, line, LANCE_IRQ, combining, host)
    ports = PortMap()
    dispatcher = Dispatcher(ports, station.counters, _counter(station.counters))
    lance = LancePorts(station, registers, switch, combining)
    windows = ClientWindows(station.world, switch, DmaChannel(station.fds["dma"]), _log)
    trouble = Trouble(station.counters)
    function = LanceFunction(station, registers, lance, switch, line, windows, dispatcher, ports, trouble, _log)
    server = Server(socket.socket(fileno=station.fds["listener"]), function, _log, trouble.note)
    line.connect(server.interrupt)
    bell.listen(lambda: server.pending)
    live = LiveSettings(station, registers, combining, lance, dispatcher, host)

    def attached() -> None:
        station.control.send({"event": "running"})

    station.live["trace"] = Tracer(station.fds.get("trace"), trace_points(function, line, switch)).switch
    return ForeignMonitor(
        station, server, function, line, bell, switch, host, combining, live.apply_waiting, attached, _log
    ).run


def _combining(station: Station) -> SendCombining:
    settings = station.settings
    return SendCombining(
        settings.optimisations.combining, settings.combine_threshold, settings.combine_decay, settings.combine_cap
    )


def _counter(counters: memoryview) -> Callable[[], None]:
    def count_unclaimed() -> None:
        counters[_UNCLAIMED] += 1

    return count_unclaimed


def _log(line: str) -> None:
    """One line for the user, or for the log of a detached stack."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"worldswitch: vmm: {line}", file=sys.stderr, flush=True)
