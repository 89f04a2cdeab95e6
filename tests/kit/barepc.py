"""A PC without a monitor, for the drivers: every port access goes straight to the device, and is written down.

``BareCpu`` obeys ``guest.cpu.Cpu``. What happens outside while the guest is idle is scripted: HLT takes the next
of ``at_halt``; without one, and without an interrupt or a guest event, the driver's endless loop ends with Idle.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from guest.card import Card, GuestEvents
from guest.drivers.linux22 import Linux22
from guest.drivers.napi import Napi
from guest.drivers.pcnet import Pcnet
from guest.events import Events
from guest.interface import CardSettings
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

__all__ = ["BareCpu", "BarePc", "ScriptedKernel"]

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

    def hlt(self, events: Events) -> None:
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


class ScriptedKernel:
    """What the guest's kernel has set on its interface, for the test to change; ``announce``: and to tell."""

    def __init__(self) -> None:
        self.settings: CardSettings | None = CardSettings(up=True, mac=MAC, promiscuous=False, ladrf=0)
        self.looks = 0
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._told

    def look(self) -> CardSettings | None:
        self.looks += 1
        try:
            os.eventfd_read(self._told)
        except BlockingIOError:
            pass
        return self.settings

    def announce(self, **changes: object) -> None:
        """The kernel has set something, and says so."""
        self.set(**changes)
        os.eventfd_write(self._told, 1)

    def set(self, **changes: object) -> None:
        """The kernel has set something that it does not announce."""
        assert self.settings is not None
        self.settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]

    def close(self) -> None:
        os.close(self._told)


class BarePc:
    """Context manager: CPU, 8259 pair, Lance with its engine, and a driver ("linux22" or "napi") that is up.

    ``stack`` is the guest's network stack: send a datagram to have the guest send it, receive what it delivered.
    ``wire.sent`` and ``wire.waiting`` are what the Lance sent and will receive. ``kernel``: what the guest's wants.
    """

    def __init__(self, driver: str = "linux22", *, up: bool = True, **rings: int) -> None:
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
        self._up = up

    def __enter__(self) -> BarePc:
        self.stack, self._tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.stack.setblocking(False)
        self._tap.setblocking(False)
        self._wake = os.eventfd(0)
        self.kernel = ScriptedKernel()
        self.kernel.set(up=self._up)
        ram = GuestRam(self.ram)
        logs = {"log_tx": 4, "log_rx": 5} | self._rings
        self.chip = Pcnet(self.cpu, ram, LANCE_DEFAULT_BASE, self._tap.fileno(), self.counters, **logs)  # type: ignore[arg-type]
        self.card = Card(self.chip, self.kernel)
        stack_events = GuestEvents(self.card, self._wake, self._tap.fileno())
        chip_events = GuestEvents(self.card, self._wake)
        kind = {"linux22": Linux22, "napi": Napi}[self._kind]
        self.driver = kind(self.chip, stack_events, chip_events, card=self.card)
        InterruptController(self.cpu).request(LANCE_IRQ, self.driver.interrupt)  # type: ignore[arg-type]
        self.card.start(MAC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake)
        self.kernel.close()
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
