"""A foreign guest's memory map: random maps and unmaps against a model that knows each byte's window."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from machine.dma import MAP, Change, DmaChannel
from machine.memory import GuestMemory
from vmapp.dmawindows import DmaWindows
from vmapp.lance.testkit import RX, TX, Rig

SPACE = 64
ADDRESSES = st.integers(0, SPACE - 1)
SIZES = st.integers(1, SPACE)


@dataclass
class Mapped:
    """A window of the model; ``kind``: "rw", "ro" or "none"."""

    base: int
    size: int
    kind: str
    bytes: bytearray = field(default_factory=bytearray)


class ByteMap(RuleBasedStateMachine):
    """The map under test beside a list of windows in which every byte is looked up alone."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = GuestMemory(memoryview(b""))
        self.windows: list[Mapped] = []
        self.number = 0

    @rule(base=ADDRESSES, size=SIZES, kind=st.sampled_from(("rw", "ro", "none")))
    def map(self, base: int, size: int, kind: str) -> None:
        self.number = (self.number + 1) % 256
        window = Mapped(base, size, kind, bytearray([self.number]) * size)
        view = memoryview(window.bytes)
        self.memory.map(base, {"rw": view, "ro": view.toreadonly(), "none": None}[kind], size)
        self.windows.append(window)

    @rule(base=ADDRESSES, size=SIZES)
    def unmap(self, base: int, size: int) -> None:
        gone = [w for w in self.windows if base <= w.base and w.base + w.size <= base + size]
        generation = self.memory.generation
        assert self.memory.unmap(base, size) == sum(w.size for w in gone)
        assert self.memory.generation == generation + bool(gone)
        self.windows = [w for w in self.windows if w not in gone]

    @rule()
    def clear(self) -> None:
        assert self.memory.clear() == sum(w.size for w in self.windows)
        self.windows = []

    def owner(self, address: int) -> Mapped | None:
        """The newest window that has the byte."""
        return next((w for w in reversed(self.windows) if w.base <= address < w.base + w.size), None)

    @rule(address=ADDRESSES, length=st.integers(-1, SPACE))
    def look(self, address: int, length: int) -> None:
        owners = [self.owner(at) for at in range(address, address + length)]
        one = owners[0] if owners else None
        reachable = one is not None and one.kind != "none" and all(w is one for w in owners)
        source, window = self.memory.source(address, length), self.memory.window(address, length)
        assert (source is not None) == reachable
        assert (window is not None) == (reachable and one is not None and one.kind == "rw")
        if source is not None and one is not None:
            assert bytes(source) == bytes(one.bytes[address - one.base : address - one.base + length])

    @invariant()
    def every_byte(self) -> None:
        for address in range(2 * SPACE):
            owner = self.owner(address)
            assert (self.memory.source(address, 1) is not None) == (owner is not None and owner.kind != "none")
            assert (self.memory.window(address, 1) is not None) == (owner is not None and owner.kind == "rw")


TestByteMap = ByteMap.TestCase
TestByteMap.settings = settings(deadline=None)


def remapped(rig: Rig) -> None:
    """What vmapp does after each change of the map."""
    rig.engine.remapped()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("map", "ro", "hide", "unmap")), st.integers(0, 255)), max_size=20))
def test_the_engine_keeps_to_the_map(steps: list[tuple[str, int]]) -> None:
    """Whatever comes and goes under a running chip: bytes that are not mapped writable do not change."""
    rig = Rig()
    memory = GuestMemory(memoryview(b""))
    _exchange(rig, memory)
    memory.map(0, rig.ram)
    rig.boot()
    rig.lend_all(8)
    page = len(rig.ram) // 256
    for step, number in steps:
        base = number * page
        if step == "unmap":
            memory.unmap(0, len(rig.ram))
        elif step == "hide":
            memory.map(base, None, page)
        else:
            view = rig.ram[base : base + page]
            memory.map(base, view.toreadonly() if step == "ro" else view)
        remapped(rig)
        locked = {
            at: bytes(rig.ram[at : at + page])
            for at in range(0, len(rig.ram), page)
            if memory.window(at, page) is None and memory.window(at, 1) is None
        }
        rig.port.waiting.append(bytes.fromhex("525400c61200") + bytes(94))
        rig.engine.receive()
        rig.regs.write_csr(0, 0x0048)
        rig.engine.run(2)
        assert all(bytes(rig.ram[at : at + page]) == content for at, content in locked.items())


def _exchange(rig: Rig, memory: GuestMemory) -> None:
    """Gives the rig's chip another memory."""
    from vmapp.lance.engine import LanceEngine

    rig.memory = memory
    rig.engine = LanceEngine(rig.regs, memory, rig.port, rig.counters)


def _rig_with(memory: GuestMemory) -> Rig:
    rig = Rig()
    _exchange(rig, memory)
    memory.map(0, rig.ram)
    rig.boot()
    rig.lend_all(8)
    return rig


def test_a_frame_is_sent_from_rom_but_none_received_into_it() -> None:
    """A read-only window serves as a source of DMA; a write to it is a memory error, and changes nothing."""
    memory = GuestMemory(memoryview(b""))
    rig = _rig_with(memory)
    for ring in (RX, TX):
        start = rig.buffer_address(ring, 0)
        memory.map(start, rig.ram[start : start + 0x800].toreadonly())
    remapped(rig)
    rig.queue(0, bytes(range(100)))
    rig.kick()
    assert rig.port.sent == [bytes(range(100))]
    start = rig.buffer_address(RX, 0)
    before = bytes(rig.ram[start : start + 0x800])
    rig.port.waiting.append(bytes.fromhex("525400c61200") + bytes(94))
    rig.engine.receive()
    assert rig.counter("memory_errors") > 0
    assert bytes(rig.ram[start : start + 0x800]) == before


def test_nothing_is_kept_of_a_window_that_is_gone() -> None:
    """After an unmap the engine holds no view of the memory, which can be given back at once."""
    memory = GuestMemory(memoryview(b""))
    rig = _rig_with(memory)
    rig.queue(0, bytes(100), flags=0x82)
    rig.queue(1, bytes(100), flags=0x81)
    rig.kick()
    assert len(rig.port.sent) == 1
    backing = bytearray(4096)
    memory.map(0x8000_0000, memoryview(backing))
    rig.regs.finish_init(0, bytes(6), bytes(8), 0x8000_0000, 0x8000_0800, 3, 3)
    remapped(rig)
    memory.unmap(0x8000_0000, 4096)
    remapped(rig)
    backing.clear()  # BufferError while anybody has a view of it


def test_a_descriptor_that_was_lost_on_its_way() -> None:
    """A mapping whose descriptor the kernel has dropped is refused; it does not become a window without memory."""
    memory = GuestMemory(memoryview(b""))
    vmm, vmapp = (DmaChannel(end.detach()) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with vmm._socket, vmapp._socket:
        vmm.send(Change(MAP, 0, 4096))
        assert DmaWindows(memory, vmapp, lambda: None).take() == errno.EMFILE
    assert memory.windows == 0


def test_nothing_beyond_32_bits() -> None:
    """Of a window over the last address of the bus only what lies below can be reached, whatever was found before."""
    memory = GuestMemory(memoryview(b""))
    limit = 1 << 32
    memory.map(limit - 64, memoryview(bytearray(128)))
    memory.map(limit + 16, memoryview(bytearray(16)))
    for _ in range(2):
        for address, length in ((limit, 1), (limit - 8, 9), (limit + 16, 16)):
            assert memory.window(address, length) is None
        assert memory.window(limit - 8, 8) is not None
