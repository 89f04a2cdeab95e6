"""Two modes that few drivers use: aligned reception (RCVALGN) and magic packets (MPMODE, MPEN)."""

from __future__ import annotations

from zlib import crc32

import pytest

from vmapp.lance.testkit import MAC, RX, TX, Rig

STRANGER = bytes.fromhex("020000000001")
GROUP = bytes.fromhex("01005e000001")
BROADCAST = b"\xff" * 6
MPINT, MPINTE, MPEN, MPMODE, MPPLBA = 0x10, 0x08, 0x04, 0x02, 0x20
INTR, INEA, TDMD = 0x80, 0x40, 0x08


def frame(size: int, destination: bytes = MAC) -> bytes:
    """A frame with contents."""
    return (destination + STRANGER + b"\x08\x00" + bytes(i & 0xFF for i in range(size)))[:size]


def magic(destination: bytes = MAC, station: bytes = MAC, times: int = 16, offset: int = 20) -> bytes:
    """A frame in which an address stands some times in a row."""
    return destination + STRANGER + b"\x08\x42" + bytes(offset) + b"\xff" * 6 + station * times + b"end"


def with_fcs(data: bytes) -> bytes:
    """As the chip stores it."""
    return data + crc32(data).to_bytes(4, "little")


@pytest.fixture
def rig() -> Rig:
    """A running chip with RMDs."""
    rig = Rig()
    rig.boot()
    rig.lend_all(8)
    return rig


@pytest.mark.parametrize("size", [60, 1514])
def test_aligned_reception(rig: Rig, size: int) -> None:
    """RCVALGN: two bytes come before the frame, so that its data are at multiples of four; MCNT leaves them out."""
    rig.write_csr(5, 1)
    rig.write_csr(122, 1)
    rig.write_csr(5, 0)
    rig.port.waiting += [frame(size)] * 2
    assert rig.engine.receive() == 2
    for index in range(2):
        at = rig.buffer_address(RX, index)
        assert bytes(rig.ram[at + 2 : at + 2 + size + 4]) == with_fcs(frame(size))
        assert bytes(rig.ram[at : at + 2]) == bytes(2)
        assert rig.get(RX, index).result == size + 4


def test_aligned_reception_is_written_while_stopped_or_suspended(rig: Rig) -> None:
    """The bit takes effect with the next frame, and goes again."""
    for value in (1, 0):
        rig.write_csr(5, 1)
        rig.write_csr(122, value)
        rig.write_csr(5, 0)
        rig.port.waiting.append(frame(60))
        rig.engine.receive()
        at = rig.buffer_address(RX, 1 - value) + 2 * value
        assert bytes(rig.ram[at : at + 64]) == with_fcs(frame(60))


def test_aligned_reception_over_small_buffers(rig: Rig) -> None:
    """The two bytes are part of the first buffer of a chain."""
    rig.write_csr(5, 1)
    rig.write_csr(122, 1)
    rig.write_csr(5, 0)
    for index in range(4):
        rig.lend(index, 64)
    rig.port.waiting.append(frame(150))
    rig.engine.receive()
    pieces = [bytes(rig.ram[rig.buffer_address(RX, i) : rig.buffer_address(RX, i) + 64]) for i in range(3)]
    assert b"".join(pieces)[2:156] == with_fcs(frame(150))
    assert rig.get(RX, 2).result == 154


def test_asleep_it_neither_sends_nor_receives(rig: Rig) -> None:
    """In magic packet mode TDMD waits and frames are lost; when it ends, the rings go on where they were."""
    rig.write_csr(5, MPMODE)
    rig.write_csr(5, MPMODE | MPEN)
    rig.queue(0, frame(100))
    rig.kick()
    rig.engine.poll()
    rig.port.waiting.append(frame(100))
    rig.engine.receive()
    assert rig.port.sent == []
    assert rig.get(RX, 0).owned
    assert rig.csr(0) & TDMD
    assert not rig.csr(5) & MPINT
    rig.write_csr(5, MPMODE)
    rig.engine.poll()
    assert rig.port.sent == [frame(100)]
    assert not rig.get(TX, 0).owned
    rig.port.waiting.append(frame(200))
    rig.engine.receive()
    assert rig.received(0) == with_fcs(frame(200))


@pytest.mark.parametrize(
    ("csr5", "packet", "wakes"),
    [
        (MPMODE | MPEN, magic(), True),
        (MPMODE | MPEN, magic(offset=0), True),
        (MPMODE | MPEN, magic(times=17), True),
        (MPMODE | MPEN, magic(times=15), False),
        (MPMODE | MPEN, magic(station=STRANGER), False),
        (MPMODE | MPEN, magic(STRANGER), False),
        (MPMODE | MPEN, magic(BROADCAST), False),
        (MPMODE | MPEN | MPPLBA, magic(BROADCAST), True),
        (MPMODE | MPEN | MPPLBA, magic(GROUP), True),
        (MPMODE | MPEN | MPPLBA, magic(STRANGER), False),
        (MPMODE, magic(), False),
        (MPEN, magic(), False),
        (0, magic(), False),
    ],
)
def test_what_is_a_magic_packet(rig: Rig, csr5: int, packet: bytes, wakes: bool) -> None:
    """PADR sixteen times without a gap, for PADR or, with MPPLBA, for others too, and only in the mode."""
    rig.write_csr(0, INEA | 0x0100)
    rig.write_csr(5, csr5 | MPINTE)
    rig.port.waiting.append(packet)
    rig.engine.receive()
    assert bool(rig.csr(5) & MPINT) is wakes
    if wakes:
        assert rig.csr(0) & INTR
        assert rig.regs.irq_level == 1
        rig.write_csr(5, csr5 | MPINTE | MPINT)
        assert rig.regs.irq_level == 0


@pytest.mark.parametrize("what", ["stopped", "unplugged", "masked"])
def test_no_magic_without_a_receiver(rig: Rig, what: str) -> None:
    """A stopped chip and one without a cable hear nothing; without MPINTE there is no interrupt."""
    rig.write_csr(0, INEA | 0x0100)
    if what == "stopped":
        rig.write_csr(0, 0x0004)
    rig.regs.set_link(what != "unplugged")
    rig.write_csr(5, MPMODE | MPEN)
    rig.port.waiting.append(magic())
    rig.engine.receive()
    assert bool(rig.csr(5) & MPINT) is (what == "masked")
    assert rig.regs.irq_level == 0
