"""The vmapp process: the user-level application on the host that owns the Lance's back half and the host TAP."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from machine import signalpipe
from machine.dma import DmaChannel
from machine.lance.regfile import RegisterFile
from machine.launch import IRQ_SIGNAL, Station, run_role
from machine.memory import GuestMemory
from machine.seams import Tracer
from machine.wiring import interrupt
from netbackend.pcapng import PcapngWriter
from vmapp.capture import Capture
from vmapp.dmawindows import DmaWindows
from vmapp.hostworld import HostWorld
from vmapp.lance.engine import LanceEngine
from vmapp.lance.port import TapPort
from vmapp.tracepoints import trace_points

__all__ = ["main"]


def _take_interrupts(fd: int) -> None:
    """The vmm's signal needs no answer: it is there to end the system call that vmapp may be held up in."""
    signal.signal(IRQ_SIGNAL, lambda *_: signalpipe.drain(fd))


def _prepare(station: Station) -> Callable[[], None]:
    _take_interrupts(station.fds[interrupt("vmapp")])
    registers = RegisterFile(station.lance)
    port = TapPort(station.fds["tap"], station.counters)
    memory = GuestMemory(station.ram)
    engine = LanceEngine(registers, memory, port, station.counters)
    if "pcap" in station.fds:
        writer = PcapngWriter(str(station.settings.pcap), ("lance",), station.fds["pcap"])
        Capture(engine, writer, station.control).start()
    if station.settings.foreign:
        windows = DmaWindows(memory, DmaChannel(station.fds["dma"]), engine.remapped)
        host = HostWorld(station, registers, engine, windows.take)
    else:
        host = HostWorld(station, registers, engine)
    tracer = Tracer(station.fds.get("trace"), trace_points(host, engine, port), host.forget_bindings)
    station.live["trace"] = tracer.switch
    return host.run


def main() -> int:
    """Runs the process from its launch record to its end; the exit status."""
    return run_role("vmapp", _prepare)


if __name__ == "__main__":
    sys.exit(main())
