"""A PC without a monitor, for the drivers: every port access goes straight to the device, and is written down.

``BareCpu`` obeys ``guest.cpu.Cpu``. What happens outside while the guest is idle is scripted: HLT takes the next
of ``at_halt``; without one, and without an interrupt or a guest event, the driver's endless loop ends with Idle.
"""

from __future__ import annotations

import os
import select
import socket
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from guest.drivers.linux22 import Linux22
from guest.drivers.napi import Napi
from guest.drivers.pcnet import Pcnet
from guest.memory import GuestRam
from guest.platform import InterruptController
from machine.counters import GUEST, indices
from machine.lance.regfile import RegisterFile
from machine.lance.state import STATE_WORDS
from machine.layout import COUNTER_PAGE_BYTES
from machine.memory import GuestMemory
from machine.portmap import PortMap
from machine.ports import LANCE_DEFAULT_BASE, LANCE_IRQ, LANCE_PORTS
from tests.kit.bells import Idle
from vmapp.lance.engine import LanceEngine
from vmapp.lance.testkit import MAC, MemoryPort
from vmm.pic import PicPair

__all__ = ["BareCpu", "BarePc"]

RAM_BYTES: Final = 1 << 20


class BareCpu:
    """Ports and interrupts without traps; interrupts are taken after every access, as on hardware."""

    def __init__(self, ports: PortMap, pic: PicPair, after_access: Callable[[int], None]) -> None:
        self._ports = ports
        self._pic = pic
        self._after_access = after_access
        self._gates: dict[int, Callable[[], None]] = {}
        self.enabled = False
        self.log: list[tuple[str, int, int]] = []
        self.irqs = 0
        self.halts = 0
        self.at_halt: deque[Callable[[], object]] = deque()

    def accesses(self) -> Counter[int]:
        """Accesses so far, both ways, by port."""
        return Counter(port for _, port, _ in self.log)

    def set_gate(self, vector: int, handler: Callable[[], None]) -> None:
        self._gates[vector] = handler

    def read_port(self, port: int, width: int) -> int:
        value = self._ports.read(port, width)
        self.log.append(("in", port, value))
        self._after_access(0)
        self._interrupts()
        return value

    def write_port(self, port: int, width: int, value: int) -> None:
        self.log.append(("out", port, value))
        self._after_access(self._ports.write(port, width, value))
        self._interrupts()

    def cli(self) -> None:
        self.enabled = False

    def sti(self) -> None:
        self.enabled = True
        self._interrupts()

    def hlt(self, events: select.poll) -> None:
        """STI; HLT: ends with an interrupt, a guest event, or after what is scripted; else there is nothing to do."""
        self.halts += 1
        self._after_access(0)
        if not self._pic.output and not events.poll(0):
            if not self.at_halt:
                raise Idle
            self.at_halt.popleft()()
            self._after_access(0)
        self.sti()

    def _interrupts(self) -> None:
        while self.enabled and self._pic.output:
            self.enabled = False
            self.irqs += 1
            self._gates[self._pic.acknowledge()]()
            self.enabled = True


class BarePc:
    """Context manager: CPU, 8259 pair, Lance with its engine, and a driver ("linux22" or "napi") that is up.

    ``stack`` is the guest's network stack: send a datagram to have the guest send it, receive what it delivered.
    ``wire.sent`` and ``wire.waiting`` are what the Lance sent and will receive.
    """

    def __init__(self, driver: str = "linux22", **rings: int) -> None:
        self.registers = RegisterFile(memoryview(bytearray(4 * STATE_WORDS)).cast("I"))
        self.registers.power_on(MAC)
        self.registers.config_write(0x04, 2, 0x0005)  # I/O decoding, bus master
        self.ram = memoryview(bytearray(RAM_BYTES))
        self.wire = MemoryPort()
        counters = memoryview(bytearray(COUNTER_PAGE_BYTES)).cast("Q")
        self.engine = LanceEngine(self.registers, GuestMemory(self.ram), self.wire, counters)
        self.pic = PicPair()
        ports = PortMap()
        self.pic.claim_on(ports)
        ports.claim(LANCE_DEFAULT_BASE, LANCE_PORTS, "lance", self.registers)
        self.cpu = BareCpu(ports, self.pic, self._work)
        self.counters = memoryview(bytearray(COUNTER_PAGE_BYTES)).cast("Q")
        self.engine_runs = True
        self._kind = driver
        self._rings = rings

    def __enter__(self) -> BarePc:
        self.stack, self._tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.stack.setblocking(False)
        self._tap.setblocking(False)
        self._wake = os.eventfd(0)
        chip_events, stack_events = select.poll(), select.poll()
        chip_events.register(self._wake, select.POLLIN)
        stack_events.register(self._wake, select.POLLIN)
        stack_events.register(self._tap.fileno(), select.POLLIN)
        ram = GuestRam(self.ram)
        logs = {"log_tx": 4, "log_rx": 5} | self._rings
        self.chip = Pcnet(self.cpu, ram, LANCE_DEFAULT_BASE, self._tap.fileno(), self.counters, **logs)  # type: ignore[arg-type]
        kind = {"linux22": Linux22, "napi": Napi}[self._kind]
        self.driver = kind(self.chip, stack_events, chip_events)
        InterruptController(self.cpu).request(LANCE_IRQ, self.driver.interrupt)  # type: ignore[arg-type]
        self.chip.open(MAC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake)
        self.stack.close()
        self._tap.close()

    def run(self) -> None:
        """Runs the driver until it has nothing left to do; interrupts and accesses are counted from here on."""
        self.cpu.log.clear()
        self.cpu.irqs = self.cpu.halts = 0
        try:
            self.driver.run()
        except Idle:
            pass

    def arrive(self, *frames: bytes) -> None:
        """Frames come in from the wire, as many as the receive ring takes."""
        self.wire.waiting.extend(frames)
        while self.engine_runs and self.engine.receive():
            pass

    def delivered(self) -> list[bytes]:
        """What the driver has handed to the guest's network stack since the last call."""
        frames = []
        try:
            while True:
                frames.append(self.stack.recv(4096))
        except BlockingIOError:
            return frames

    def counter(self, name: str) -> int:
        """One of the guest's counters."""
        return self.counters[indices(GUEST)[name]]

    def _work(self, effect: int) -> None:
        """What vmapp does after an access, and INTA# on its way to the 8259 pair."""
        if effect and self.engine_runs:
            self.engine.run(effect)
        self.pic.set_line(LANCE_IRQ, self.registers.irq_level)
