"""What the comparison needs of a machine with a Lance, and ours: register file and engine in this process."""

from __future__ import annotations

from typing import Final, Protocol

from machine.counters import VMAPP, indices
from machine.lance.bits import CSR15_LOOP
from machine.lance.regfile import EFFECT_TRANSMIT, RegisterFile
from machine.lance.state import LINK_UP, STATE_WORDS
from machine.memory import GuestMemory
from tests.differential.steps import WINDOW, Access, Config
from vmapp.lance.engine import LanceEngine
from vmapp.lance.testkit import MAC, MemoryPort

__all__ = ["POLLS", "Machine", "OurMachine"]

POLLS: Final = 4
"""How often, at most, a chip looks at its transmit ring while time passes: by QEMU's timer, then at each access."""

_COUNTERS: Final = indices(VMAPP)


class Machine(Protocol):
    """A Lance, its guest's memory, and its wire. ``memory``: WINDOW writable bytes from address 0."""

    memory: memoryview

    def access(self, access: Access) -> int:
        """Carries out a port access; the value read, 0 for an OUT."""

    def config(self, step: Config) -> int:
        """The same for PCI configuration space."""

    def inject(self, frame: bytes) -> None:
        """A frame arrives; the chip takes, drops or misses it before this returns."""

    def set_link(self, up: bool) -> None:
        """The cable is plugged in, or pulled out."""

    def time_passes(self) -> None:
        """More than one polling interval of the chip goes by."""

    def csr0(self) -> int:
        """CSR0; whatever RAP says, and without changing it."""

    def level(self) -> int:
        """1 while INTA# is driven, else 0."""

    def sent(self) -> list[bytes]:
        """The frames that have gone out since the last call, in order."""


class OurMachine:
    """The device under test. ``looped`` collects the frames that were looped back, without FCS."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(WINDOW))
        self.regs = RegisterFile(memoryview(bytearray(4 * STATE_WORDS)).cast("I"))
        self.regs.power_on(MAC)
        self.port = MemoryPort()
        self.counters = memoryview(bytearray(8 * len(_COUNTERS))).cast("Q")
        self.engine = LanceEngine(self.regs, GuestMemory(self.memory), self.port, self.counters)
        self.looped: list[bytes] = []

    def counter(self, name: str) -> int:
        """One of the vmapp's counters."""
        return int(self.counters[_COUNTERS[name]])

    def csr(self, index: int) -> int:
        """A CSR, without side effects."""
        return self.regs.read_csr(index)

    def bcr(self, index: int) -> int:
        """A BCR, without side effects."""
        return self.regs.read_bcr(index)

    @property
    def link_up(self) -> bool:
        """The cable is in."""
        return bool(self.regs.words[LINK_UP])

    def access(self, access: Access) -> int:
        """As ``Machine``."""
        if access.value is None:
            return self.regs.read(access.offset, access.width)
        self._watch_loop(maybe=self.regs.rap == 0)  # INIT may bring loopback, and send
        self.engine.run(self.regs.write(access.offset, access.width, access.value))
        return 0

    def config(self, step: Config) -> int:
        """As ``Machine``."""
        if step.value is None:
            return self.regs.config_read(step.offset, step.width)
        self.regs.config_write(step.offset, step.width, step.value)
        return 0

    def inject(self, frame: bytes) -> None:
        """As ``Machine``."""
        self.port.waiting.append(frame)
        if not self.engine.receive(1):
            self.engine.miss(1)

    def set_link(self, up: bool) -> None:
        """As ``Machine``."""
        self.regs.set_link(up)

    def time_passes(self) -> None:
        """As ``Machine``."""
        self._watch_loop()
        for _ in range(POLLS):
            if self.engine.transmit_pending:
                self.engine.run(EFFECT_TRANSMIT)
            if not self.engine.poll() and not self.engine.transmit_pending:
                return

    def csr0(self) -> int:
        """As ``Machine``."""
        return self.regs.read_csr(0)

    def level(self) -> int:
        """As ``Machine``."""
        return self.regs.irq_level

    def sent(self) -> list[bytes]:
        """As ``Machine``."""
        frames, self.port.sent = self.port.sent, []
        return frames

    def _watch_loop(self, *, maybe: bool = False) -> None:
        """Frames that are looped back are kept; where there can be none, no hook changes the engine's ways."""
        self.engine.on_transmit = self._keep if maybe or self.csr(15) & CSR15_LOOP else None

    def _keep(self, frame: memoryview) -> None:
        if self.csr(15) & CSR15_LOOP:
            self.looped.append(bytes(frame))
