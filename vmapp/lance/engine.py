"""The Lance's engine: carries out what the register file leaves to do, and moves frames both ways.

The register file (``machine.lance.regfile``) says what the guest asked for; the engine fetches init blocks and
descriptors from guest memory, sends and receives. Every call does bounded work, never raises for anything that
the guest or the wire says, and leaves the chip's state in the shared words, where it found it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from machine.counters import VMAPP, indices
from machine.lance.bits import BCR20_SSIZE32, CSR0_TDMD, CSR4_DPOLL, CSR5_SPND
from machine.lance.regfile import EFFECT_INIT, EFFECT_TRANSMIT, RegisterFile
from machine.lance.state import BCR, CONFIG_GENERATION, CSR
from machine.memory import GuestMemory

from . import initblock
from .descriptors import LAYOUTS
from .events import Events
from .port import FramePort
from .receive import BURST, Receiver
from .transmit import Transmitter

__all__ = ["LanceEngine"]

_POLLS: Final = indices(VMAPP)["tx_polls"]

FrameHook = Callable[[memoryview], None]


class LanceEngine:
    """The half of the Lance that does DMA and host I/O.

    ``counters`` is the vmapp's counter page, format "Q". Not thread-safe: one world runs at a time.
    """

    def __init__(self, regs: RegisterFile, memory: GuestMemory, port: FramePort, counters: memoryview) -> None:
        self._regs = regs
        self._words = regs.words
        self._memory = memory
        self._counters = counters
        self._events = Events(regs, counters)
        self._receiver = Receiver(regs.words, memory, port, counters, self._events)
        self._transmitter = Transmitter(regs.words, memory, port, counters, self._events, self._receiver.looped)
        self._config_seen = self._map_seen = -1

    def run(self, effect: int) -> None:
        """Carries out the effects (``EFFECT_INIT``, ``EFFECT_TRANSMIT``) that a register write answered with."""
        if (not effect & EFFECT_INIT or self._initialise()) and effect & EFFECT_TRANSMIT:
            self._refresh()
            self._transmitter.run()
        self._events.settle()

    def remapped(self) -> None:
        """The memory map has changed: lets go of windows that are gone, so that their memory can be given back."""
        self._transmitter.forget_parts()
        self._refresh()

    def poll(self) -> bool:
        """Looks for a TMD as the chip does of its own accord; True if there was one."""
        if not self.wants_poll:
            return False
        self._counters[_POLLS] += 1
        self._refresh()
        if not self._transmitter.waiting:
            return False
        sent = self._transmitter.run()
        self._events.settle()
        return sent

    def receive(self, burst: int = BURST) -> int:
        """Takes up to ``burst`` frames from the port into the receive ring; how many it took.

        0 means that the port is empty, or the ring full (``receive_behind``). A receiver that is off, suspended,
        looped back or without a link takes frames and drops them.
        """
        self._refresh()
        taken = self._receiver.receive(burst)
        self._events.settle()
        return taken

    def miss(self, burst: int = BURST) -> int:
        """Takes up to ``burst`` frames from the port and loses them for want of a RMD (MISS); how many it took."""
        self._refresh()
        taken = self._receiver.miss(burst)
        self._events.settle()
        return taken

    @property
    def wants_poll(self) -> bool:
        """The chip polls: transmitter on, not suspended, bus mastering allowed, DPOLL clear."""
        return self._transmitter.enabled and not self._words[CSR + 4] & CSR4_DPOLL

    @property
    def transmit_pending(self) -> bool:
        """``run`` stopped at its limit and wants to be called again with ``EFFECT_TRANSMIT``."""
        return self._transmitter.enabled and bool(self._words[CSR] & CSR0_TDMD)

    @property
    def listening(self) -> bool:
        """The receiver hears the wire; while it does not, ``receive`` only drops."""
        return self._receiver.listening

    @property
    def suspended(self) -> bool:
        """The guest has suspended the chip (CSR5.SPND) for a moment, to set it up anew."""
        return bool(self._words[CSR + 5] & CSR5_SPND)

    @property
    def receive_behind(self) -> bool:
        """The last ``receive`` did not get as far as finding the port empty: its limit, or the ring's, came first."""
        return self._receiver.behind

    @property
    def on_transmit(self) -> FrameHook | None:
        """Called with every frame sent, without FCS, before its buffer goes back to the guest."""
        return self._transmitter.outlet.on_frame

    @on_transmit.setter
    def on_transmit(self, hook: FrameHook | None) -> None:
        self._transmitter.outlet.on_frame = hook

    @property
    def on_receive(self) -> FrameHook | None:
        """Called with every frame received, without FCS, before its buffer goes back to the guest."""
        return self._receiver.on_frame

    @on_receive.setter
    def on_receive(self, hook: FrameHook | None) -> None:
        self._receiver.on_frame = hook

    def _initialise(self) -> bool:
        """Fetches the init block that CSR1 and CSR2 point at; False, with MERR, if it lies outside RAM.

        False, too, without leave to use the bus, which the data sheet wants to be given before INIT: IDON never comes.
        """
        regs, words = self._regs, self._words
        if not regs.bus_master:
            return False
        address = regs.read_csr(1) | regs.read_csr(2) << 16
        block = initblock.fetch(self._memory, address, bool(words[BCR + 20] & BCR20_SSIZE32))
        if block is None:
            self._events.memory_error()
            return False
        regs.finish_init(block.mode, block.padr, block.ladrf, block.rx_base, block.tx_base, block.rlen, block.tlen)
        return True

    def _refresh(self) -> None:
        """Takes everything over from the registers again if they, or the memory map, have changed."""
        config, mapping = self._words[CONFIG_GENERATION], self._memory.generation
        if config != self._config_seen or mapping != self._map_seen:
            layout = LAYOUTS[self._regs.swstyle & 3]
            high = 0 if layout.address_mask == 0xFFFFFFFF else (self._regs.read_csr(2) & 0xFF00) << 16
            self._transmitter.configure(layout, high)
            self._receiver.configure(layout, high)
            self._config_seen, self._map_seen = config, mapping
