"""Guests and wires that mean harm: nothing raises, hangs, or reaches outside guest memory.

The CVE numbers are those of other models of this chip; each test is the input that hurt them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.lance.state import CSR, STATE_WORDS
from vmapp.lance.testkit import MAC, RAM_SIZE, RX, TX, Rig

OWN, STP, ENP = 0x80, 0x02, 0x01
MERR, TXON, RXON = 0x0800, 0x0010, 0x0020
FRAME = MAC + MAC + bytes(100)


def fill_ring(rig: Rig, count: int, size: int, first_flags: int) -> None:
    """A ring of ``count`` owned TMDs without ENP."""
    for index in range(count):
        rig.put(TX, index, 0x20000, size, first_flags if index == 0 else OWN)


@pytest.mark.parametrize("style", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 1500, 4092, 4093, 4096])
@pytest.mark.parametrize("first", [OWN | STP, OWN])
def test_endless_chain_is_given_up(style: int, size: int, first: int) -> None:
    """CVE-2015-3209: chains of any total length, with and without STP, end in status bits and nothing else."""
    rig = Rig(style)
    rig.boot(tx_log2=7)
    fill_ring(rig, 128, size, first)
    rig.kick()
    rig.engine.run(2)
    assert rig.port.sent == []
    assert not rig.get(TX, 0).owned
    assert rig.guards_intact


def test_chain_beyond_the_limit_is_babble() -> None:
    """More than 64 KiB: BABL, an error in the last TMD taken; the rest is skipped and the next frame goes out."""
    rig = Rig()
    rig.boot(tx_log2=5)
    fill_ring(rig, 20, 4096, OWN | STP)
    rig.put(TX, 20, 0x20000, 4096, OWN | ENP)
    rig.queue(21, FRAME)
    rig.kick()
    assert rig.port.sent == [FRAME]
    assert rig.csr(0) & 0x4000
    assert rig.csr(0) & TXON


@pytest.mark.parametrize("size", [1515, 4092, 4096, 9000, 65535, 65536, 70000])
@pytest.mark.parametrize("room", [1, 60, 64, 1544, 4096])
@pytest.mark.parametrize("lent", [1, 2, 8])
def test_giant_frames_from_the_wire(size: int, room: int, lent: int) -> None:
    """CVE-2015-7512: a frame longer than its buffers fills them and no byte more."""
    rig = Rig()
    rig.boot()
    for index in range(lent):
        rig.put(RX, index, 0x10000 + index * 0x2000, room, OWN)
    rig.port.waiting.append(MAC + bytes(size - 6))
    rig.ram[0x10000 : 0x10000 + 8 * 0x2000] = b"\xee" * (8 * 0x2000)
    assert rig.engine.receive() == 1
    for index in range(lent):
        end = 0x10000 + index * 0x2000 + room
        assert bytes(rig.ram[end : end + 64]) == b"\xee" * 64
    assert rig.guards_intact


@pytest.mark.parametrize("length", [0, 1, 2, 0x7FFF, 0x8000, 0xFFFF])
@pytest.mark.parametrize("counter", [0, 1, 0x8000, 0xFFFF])
def test_any_ring_length_and_counter(length: int, counter: int) -> None:
    """CVE-2016-7909: CSR76 and CSR78 of 0 or 1 and counters beyond them: each call ends, positions stay inside."""
    rig = Rig()
    rig.boot()
    rig.write_csr(0, 0x0004)
    for csr, value in ((76, length), (78, length), (72, counter), (74, counter)):
        rig.write_csr(csr, value)
        rig.regs.words[CSR + csr] = value
    rig.write_csr(0, 0x0002)
    rig.port.waiting += [FRAME] * 200
    for _ in range(4):
        rig.kick()
        rig.engine.poll()
        rig.engine.receive()
        rig.engine.miss()
    assert rig.guards_intact


def test_position_beyond_the_ring_is_its_start() -> None:
    """A ring counter that points behind the last descriptor means the first one."""
    rig = Rig()
    rig.boot()
    rig.queue(0, FRAME)
    rig.queue(9, FRAME)
    rig.lend(0)
    for csr in (72, 74):
        rig.regs.words[CSR + csr] = (rig.csr(csr + 4) + 9) & 0xFFFF
    rig.port.waiting.append(FRAME)
    rig.kick()
    rig.engine.receive()
    assert not rig.get(TX, 0).owned
    assert not rig.get(RX, 0).owned
    assert rig.get(TX, 9).owned


def test_frame_over_hundreds_of_tiny_buffers_is_bounded() -> None:
    """One frame uses up 512 RMDs at most; a ring of 4096 one-byte buffers ends in an overrun."""
    rig = Rig()
    rig.boot()
    rig.write_csr(0, 0x0004)
    rig.write_csr(76, -4096 & 0xFFFF)
    rig.write_csr(24, 0)
    rig.write_csr(25, 0x0008)
    rig.regs.words[CSR + 72] = rig.csr(76)
    rig.write_csr(0, 0x0002)
    rmd = (0x20000).to_bytes(4, "little") + b"\xff\xff\x00\x80" + bytes(8)
    rig.ram[0x80000 : 0x80000 + 4096 * 16] = rmd * 4096
    rig.port.waiting += [MAC + bytes(4000)] * 2
    assert rig.engine.receive() == 1
    assert sum(not rig.ram[at] & OWN for at in range(0x80007, 0x80000 + 4096 * 16, 16)) == 512
    assert rig.counter("rx_errors") == 1


def test_whole_memory_of_owned_descriptors_is_bounded() -> None:
    """65536 descriptors, all owned, all without STP: 512 are looked at per call, and the rest is pending."""
    rig = Rig()
    rig.boot()
    rig.ram[:] = b"\x80" * RAM_SIZE
    rig.write_csr(0, 0x0004)
    rig.regs.words[CSR + 78] = 0
    rig.regs.words[CSR + 30] = rig.regs.words[CSR + 31] = 0
    rig.write_csr(15, 0)
    rig.write_csr(0, 0x0002)
    rig.kick()
    given_back = sum(rig.ram[at + 7] == 0 for at in range(0, RAM_SIZE, 16))
    assert 0 < given_back <= 3 * 512
    assert rig.engine.transmit_pending


@pytest.mark.parametrize("base", [RAM_SIZE - 16, RAM_SIZE - 8, RAM_SIZE, 0xFFFFFFF0, 0xFFFFFFFF, 3, RAM_SIZE - 100])
@pytest.mark.parametrize("style", [0, 2])
def test_rings_at_the_edge_of_memory(style: int, base: int) -> None:
    """RDRA and TDRA at the end of RAM, outside it, wrapping 2^32, unaligned: MERR where RAM ends, and an end to it."""
    rig = Rig(style)
    rig.boot()
    rig.write_csr(0, 0x0004)
    for csr in (24, 30):
        rig.regs.words[CSR + csr], rig.regs.words[CSR + csr + 1] = base & 0xFFFF, base >> 16
    rig.write_csr(15, 0)
    for at in range(max(0, min(base, RAM_SIZE)), RAM_SIZE):
        rig.ram[at] = 0x80
    rig.write_csr(0, 0x0002)
    rig.port.waiting += [FRAME] * 20
    for _ in range(20):
        rig.kick()
        rig.engine.poll()
        rig.engine.receive()
    assert rig.guards_intact
    if base >= RAM_SIZE:
        assert rig.csr(0) & MERR
        assert not rig.csr(0) & (TXON | RXON), "a ring outside RAM turns its half of the chip off"
        assert rig.counter("memory_errors") == 2, "and is reported once"


@pytest.mark.parametrize("address", [RAM_SIZE - 27, RAM_SIZE, 0xFFFFFFFF, 0xFFFFFFE4])
def test_init_block_outside_memory(address: int) -> None:
    """IADR outside RAM: MERR and no IDON; a later INIT with a good address works."""
    rig = Rig()
    rig.write_csr(1, address & 0xFFFF)
    rig.write_csr(2, address >> 16)
    rig.write_csr(0, 0x0003)
    assert rig.csr(0) & 0x0900 == MERR
    rig.boot()
    assert rig.csr(0) & 0x0030 == 0x0030


@pytest.mark.parametrize("ring", [RX, TX])
@pytest.mark.parametrize("address", [RAM_SIZE - 1, RAM_SIZE, 0xFFFFFFFF, 0xFFFFF000])
def test_buffers_outside_memory(ring: str, address: int) -> None:
    """RBADR and TBADR outside, across the end, wrapping: MERR and the descriptor back."""
    rig = Rig()
    rig.boot()
    rig.put(ring, 0, address, 1544, 0x83)
    rig.port.waiting.append(FRAME)
    rig.kick()
    rig.engine.receive()
    assert rig.csr(0) & MERR
    assert not rig.get(ring, 0).owned
    assert rig.guards_intact


def test_descriptor_that_is_its_own_buffer() -> None:
    """A frame received over its own RMD and the next ones: the chip's write-back still ends the frame."""
    rig = Rig()
    rig.boot()
    for index in range(8):
        rig.put(RX, index, rig.where(RX, 0), 1544, OWN)
    rig.port.waiting += [MAC + b"\x80" * 1000] * 20
    rig.engine.receive()
    assert rig.guards_intact


def test_foreign_memory_map_may_change_under_a_running_ring() -> None:
    """Windows come and go: a ring whose window is gone is MERR, not a write through a stale view."""
    rig = Rig()
    rig.boot()
    extra = bytearray(0x1000)
    rig.memory.map(0x10000000, memoryview(extra))
    rig.write_csr(0, 0x0004)
    rig.regs.words[CSR + 30], rig.regs.words[CSR + 31] = 0, 0x1000
    rig.write_csr(15, 0)
    rig.write_csr(0, 0x0002)
    extra[0:8] = (0x20000).to_bytes(4, "little") + b"\xc0\xff\x00\x83"
    rig.kick()
    assert len(rig.port.sent) == 1
    before = bytes(extra)
    rig.memory.unmap(0x10000000, 0x1000)
    rig.kick()
    assert rig.csr(0) & MERR
    assert bytes(extra) == before


def test_no_dma_without_bus_master() -> None:
    """Bus mastering off: not a byte is written and no frame sent, whatever is queued; on again, it goes on."""
    rig = Rig()
    rig.boot()
    rig.regs.config_write(0x04, 2, 0x0001)
    rig.queue(0, FRAME)
    rig.lend_all(8)
    rig.port.waiting.append(FRAME)
    before = bytes(rig.ram)
    rig.kick()
    rig.engine.poll()
    rig.engine.receive()
    rig.engine.miss()
    assert bytes(rig.ram) == before
    assert rig.port.sent == []
    rig.regs.config_write(0x04, 2, 0x0005)
    assert rig.engine.poll()
    assert rig.port.sent == [FRAME]
    rig.write_csr(0, 0x0004)
    rig.regs.config_write(0x04, 2, 0x0001)
    rig.write_csr(0, 0x0001)
    assert not rig.csr(0) & 0x0900, "INIT reads nothing: neither IDON nor MERR"


actions = st.lists(
    st.one_of(
        st.tuples(st.just("csr"), st.integers(0, 127), st.integers(0, 0xFFFF)),
        st.tuples(st.just("bcr"), st.integers(0, 63), st.integers(0, 0xFFFF)),
        st.tuples(st.just("out"), st.integers(0, 31), st.integers(0, 0xFFFFFFFF)),
        st.tuples(st.just("ram"), st.integers(0, 0x3FFF), st.integers(0, 0xFFFFFFFF)),
        st.tuples(st.just("wire"), st.integers(1, 3), st.integers(0, 70000)),
        st.tuples(st.just("start"), st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 0x44, 0x8000, 0x8044, 0x800C])),
        st.tuples(st.just("kick"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(seed=st.binary(min_size=16, max_size=64), steps=actions)
def test_random_guest_and_wire(seed: bytes, steps: list[tuple[str, int, int]]) -> None:
    """Random registers, RAM and frames: no exception, no byte outside RAM, a bounded number of frames per call."""
    rig = Rig(ram_size=0x10000)
    rig.ram[:] = (seed * (0x10000 // len(seed) + 1))[:0x10000]
    for kind, where, value in steps:
        if kind == "csr":
            rig.write_csr(where, value)
        elif kind == "bcr":
            rig.write_bcr(where, value)
        elif kind == "out":
            rig.engine.run(rig.regs.write(where, 2, value))
        elif kind == "ram":
            rig.ram[where * 4 : where * 4 + 4] = value.to_bytes(4, "little")
        elif kind == "wire":
            rig.port.waiting += [MAC + bytes(value)] * where
        elif kind == "start":
            rig.style = where
            rig.write_bcr(20, where)
            rig.boot(mode=value)
        before = len(rig.port.sent)
        rig.kick()
        rig.engine.poll()
        assert len(rig.port.sent) - before <= 2 * 2 * 512
        assert rig.engine.receive() <= 64
        assert rig.engine.miss(2) <= 2
        assert rig.guards_intact
    assert len(rig.regs.words) == STATE_WORDS
    assert all(word <= 0xFFFF for word in rig.regs.words[CSR : CSR + 128])
