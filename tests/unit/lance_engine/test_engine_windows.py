"""The engine over memory in pages: init block, descriptors and buffers across the edges of windows, and at holes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.memory import GuestMemory
from vmapp.lance.engine import LanceEngine
from vmapp.lance.testkit import MAC, RX, TX, Rig

PAGE = 4096
OWN, ERR, OFLO, STP, ENP = 0x80, 0x40, 0x10, 0x02, 0x01
MERR, RXON, TXON, IDON = 0x0800, 0x0020, 0x0010, 0x0100
SMALL = range(0x30000, 0x38000, 64)
EDGE = 0x21000  # of pages that the rig itself has no use for


def paged(style: int = 2, page: int = PAGE, holes: Sequence[int] = (), readonly: Sequence[int] = ()) -> Rig:
    """A rig, not booted, whose RAM is one window for each page, none a continuation of another; some may be missing.

    Pages smaller than 4 KiB make up SMALL and nothing else.
    """
    rig = Rig(style)
    rig.memory = GuestMemory(memoryview(b""))
    if page < PAGE:
        rig.memory.map(0, rig.ram)
    for at in SMALL if page < PAGE else range(0, len(rig.ram), page):
        if at % page:
            continue
        if at not in holes:
            view = rig.ram[at : at + page]
            rig.memory.map(at, view.toreadonly() if at in readonly else view)
    rig.engine = LanceEngine(rig.regs, rig.memory, rig.port, rig.counters)
    return rig


def frame(size: int, seed: int = 1) -> bytes:
    """A frame for the station, with contents."""
    return (MAC + b"\x02\0\0\0\0\x01\x08\x00" + bytes((i * 7 + seed) & 0xFF for i in range(size)))[:size]


def with_fcs(data: bytes) -> bytes:
    """As the chip stores it."""
    return data + crc32(data).to_bytes(4, "little")


@pytest.mark.parametrize("style", [0, 2, 3])
@pytest.mark.parametrize("before", [1, 13, 60, 700, 1513])
def test_a_transmit_buffer_across_an_edge(style: int, before: int) -> None:
    """A frame that begins in one page and ends in the next goes out whole."""
    rig = paged(style)
    rig.boot()
    data = frame(1514)
    at = EDGE - before
    rig.ram[at : at + len(data)] = data
    rig.put(TX, 0, at, len(data), 0x83)
    rig.kick()
    assert rig.port.sent == [data]
    assert not rig.csr(0) & MERR


@pytest.mark.parametrize("before", [1, 59, 64, 300, 1517])
def test_a_receive_buffer_across_an_edge(before: int) -> None:
    """A frame is stored over two pages, with its FCS, and nothing behind it is touched."""
    rig = paged()
    rig.boot()
    at = EDGE - before
    rig.ram[at : at + 1600] = b"\xee" * 1600
    rig.put(RX, 0, at, 1544, OWN)
    data = frame(1514)
    rig.port.waiting.append(data)
    assert rig.engine.receive() == 1
    assert rig.get(RX, 0).flags == STP | ENP
    assert bytes(rig.ram[at : at + 1518]) == with_fcs(data)
    assert set(rig.ram[at + 1518 : at + 1600]) == {0xEE}
    assert not rig.csr(0) & MERR


@pytest.mark.parametrize("fits", [True, False])
def test_the_tail_of_a_receive_buffer_in_a_hole(fits: bool) -> None:
    """Only a frame's bytes count: up to the last one before a hole it is stored; one more is MERR, and stores none."""
    rig = paged(holes=[EDGE])
    rig.boot()
    data = frame(200 if fits else 201)
    at = EDGE - 204
    rig.ram[at:EDGE] = b"\xee" * 204
    rig.put(RX, 0, at, 1544, OWN)
    rig.lend(1)
    rig.port.waiting += [data, frame(60)]
    assert rig.engine.receive() == 2
    assert bool(rig.csr(0) & MERR) is not fits
    assert rig.get(RX, 0).flags == (STP | ENP if fits else ERR | OFLO | STP)
    assert bytes(rig.ram[at:EDGE]) == (with_fcs(data) if fits else b"\xee" * 204)
    assert rig.received(1) == with_fcs(frame(60))


def test_a_frame_into_a_read_only_page() -> None:
    """Reached by the second half of a frame only: MERR all the same; as a source the page serves."""
    rig = paged(readonly=[EDGE])
    rig.boot()
    at = EDGE - 50
    before = bytes(rig.ram[at : at + 100])
    rig.put(RX, 0, at, 1544, OWN)
    rig.port.waiting.append(frame(100))
    rig.engine.receive()
    assert rig.csr(0) & MERR
    assert bytes(rig.ram[at : at + 100]) == before
    rig.put(TX, 0, at, 100, 0x83)
    rig.kick()
    assert rig.port.sent == [before]


def test_a_transmit_buffer_that_reaches_a_hole() -> None:
    """MERR, nothing on the wire, the TMD given back with ERR."""
    rig = paged(holes=[EDGE])
    rig.boot()
    rig.put(TX, 0, EDGE - 99, 100, 0x83)
    rig.kick()
    assert rig.port.sent == []
    assert rig.csr(0) & MERR
    assert rig.get(TX, 0).flags & ERR


@pytest.mark.parametrize("style", [0, 2])
@pytest.mark.parametrize("before", [4, 12, 20])
def test_an_init_block_across_an_edge(style: int, before: int) -> None:
    """Read over two pages; with the second one missing it is MERR, and IDON never comes."""
    for holes in ((), (EDGE,)):
        rig = paged(style, holes=holes)
        rig.write_init_block(0, 3, 3, bytes(8))
        at = EDGE - before
        rig.ram[at : at + 28] = bytes(rig.ram[0x1000:0x101C])
        rig.write_csr(1, at & 0xFFFF)
        rig.write_csr(2, at >> 16)
        rig.write_csr(0, 0x0001)
        assert bool(rig.csr(0) & IDON) is not bool(holes)
        assert bool(rig.csr(0) & MERR) is bool(holes)
        if not holes:
            assert [rig.csr(24), rig.csr(30)] == [0x2000, 0x6000]


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 7, 8, 12, 15])
def test_descriptors_across_an_edge(shift: int) -> None:
    """Rings that begin just before an edge, even within a word: the chip reads and gives back each descriptor."""
    rig = paged()
    rx, tx = EDGE - shift, EDGE + 2 * PAGE - shift
    for index in range(4):
        tail = struct.pack("<II", 0, 0)
        rig.ram[rx + 16 * index : rx + 16 * index + 16] = (
            struct.pack("<II", rig.buffer_address(RX, index), 0x8000F000 | -1544 & 0xFFF) + tail
        )
        data = frame(100, index)
        at = rig.buffer_address(TX, index)
        rig.ram[at : at + 100] = data
        rig.ram[tx + 16 * index : tx + 16 * index + 16] = struct.pack("<II", at, 0x8300F000 | -100 & 0xFFF) + tail
    rig.regs.finish_init(0, MAC, bytes(8), rx, tx, 2, 2)
    rig.write_csr(0, 0x0042)
    rig.kick()
    assert rig.port.sent == [frame(100, index) for index in range(4)]
    rig.port.waiting += [frame(80 + index) for index in range(4)]
    assert rig.engine.receive() == 4
    for index in range(4):
        sent, got = (struct.unpack("<IIII", rig.ram[at + 16 * index : at + 16 * index + 16]) for at in (tx, rx))
        assert sent == (rig.buffer_address(TX, index), 0x0300F000 | -100 & 0xFFF, 0, 0)
        assert got == (rig.buffer_address(RX, index), 0x0340F000 | -1544 & 0xFFF, 84 + index, 0)
    assert not rig.csr(0) & MERR


@pytest.mark.parametrize("lost", [TX, RX])
def test_a_descriptor_that_reaches_a_hole(lost: str) -> None:
    """MERR turns that half of the chip off, as for a ring outside RAM, whichever of its bytes is out of reach."""
    rig = paged(holes=[EDGE])
    bases = {TX: 0x6000, RX: 0x2000} | {lost: EDGE - 8}
    rig.regs.finish_init(0, MAC, bytes(8), bases[RX], bases[TX], 2, 2)
    rig.write_csr(0, 0x0042)
    rig.kick()
    rig.port.waiting.append(frame(80))
    rig.engine.receive()
    assert rig.csr(0) & MERR
    assert rig.csr(0) & (RXON | TXON) == (RXON if lost == TX else TXON)


def test_rings_of_many_pages() -> None:
    """Rings of 512 descriptors, two pages each in windows of their own: every descriptor is used, in order, twice."""
    rig = paged()
    rig.boot(rx_log2=9, tx_log2=9)
    for turn in range(2):
        for index in range(512):
            rig.lend(index)
            rig.queue(index, frame(64, index % 64 + turn))  # the rig has 64 buffers
        rig.kick()
        rig.engine.poll()
        assert rig.port.sent[512 * turn :] == [frame(64, index % 64 + turn) for index in range(512)]
        rig.port.waiting += [frame(64, index) for index in range(512)]
        while rig.port.waiting:
            assert rig.engine.receive()
        assert not any(rig.get(RX, index).owned for index in range(512))
    assert not rig.csr(0) & MERR


@settings(deadline=None)
@given(
    st.sampled_from((64, 256, PAGE)),
    st.integers(0, 3000),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
    st.booleans(),
)
def test_chains_in_pages_of_any_size(page: int, start: int, sizes: list[int], loop: bool) -> None:
    """A frame over several TMDs in pages of any size leaves, or loops back, as its bytes are, padded if it is short."""
    rig = paged(page=page)
    rig.boot(mode=0x0044 if loop else 0)
    rig.lend(0)
    data = frame(sum(sizes), 5)
    at = 0x30000 + start
    rig.ram[at : at + len(data)] = data
    for index, size in enumerate(sizes):
        flags = OWN | (STP if index == 0 else 0) | (ENP if index == len(sizes) - 1 else 0)
        rig.put(TX, index, at, size, flags)
        at += size
    rig.kick()
    padded = data.ljust(60, b"\0")
    if not loop:
        assert rig.port.sent == [padded]
    elif data[:6] == MAC and len(padded) <= 1540:
        assert rig.received(0) == with_fcs(padded)
    assert not rig.csr(0) & MERR


def test_a_frame_in_more_pieces_than_one_write_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 TMDs, each across an edge: the frame goes out in one piece, not in 1024."""
    rig = paged(page=64)
    rig.boot(tx_log2=9)
    data = frame(40, 3) * 512
    for index in range(512):
        at = 0x30000 + 64 * (index % 128) + 44  # all the same bytes, or the ring would need more pages
        rig.ram[at : at + 40] = data[:40]
        rig.put(TX, index, at, 40, OWN | (STP if index == 0 else 0) | (ENP if index == 511 else 0))
    parts: list[int] = []
    send = rig.port.send

    def counted(it: list[memoryview] | memoryview) -> bool:
        parts.append(len(it) if isinstance(it, list) else 1)
        return send(it)

    monkeypatch.setattr(rig.port, "send", counted)
    rig.kick()
    assert rig.port.sent == [data]
    assert parts == [1]
