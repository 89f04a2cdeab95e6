"""Internal loopback: the chip hears itself, and only itself, and never goes round in circles."""

from __future__ import annotations

from zlib import crc32

import pytest

from vmapp.lance.testkit import MAC, RX, TX, Rig

LOOP, INTL, DXMTFCS, PROM = 0x0004, 0x0040, 0x0008, 0x8000
OWN, ERR, CRC, STP, ENP = 0x80, 0x40, 0x08, 0x02, 0x01
MISS = 0x1000


def frame(size: int) -> bytes:
    """A frame to the chip's own address."""
    return MAC + MAC + bytes(i & 0xFF for i in range(size - 12))


def with_fcs(data: bytes) -> bytes:
    """The frame as it is on a wire."""
    return data + crc32(data).to_bytes(4, "little")


def looped(mode: int = 0, style: int = 2) -> Rig:
    """A running chip in internal loopback with eight RMDs lent."""
    rig = Rig(style)
    rig.boot(mode=LOOP | INTL | mode)
    rig.lend_all(8)
    return rig


@pytest.mark.parametrize("style", [0, 1, 2, 3])
def test_frame_comes_back_with_its_fcs(style: int) -> None:
    """Transmitted in loopback, a frame is received with a real FCS, and nothing reaches the wire."""
    rig = looped(style=style)
    rig.queue(0, frame(75))
    rig.kick()
    assert rig.port.sent == []
    assert rig.received(0) == with_fcs(frame(75))
    assert rig.get(RX, 0).flags == STP | ENP
    assert rig.csr(0) & 0x0600 == 0x0600, "RINT and TINT"


def test_drivers_own_fcs_is_checked() -> None:
    """DXMTFCS in loopback: the last four bytes are taken as FCS; CRC and ERR if they are wrong."""
    rig = looped(DXMTFCS)
    rig.queue(0, with_fcs(frame(75)))
    rig.queue(1, frame(75) + b"oops")
    rig.kick()
    assert [rig.get(RX, i).flags for i in range(2)] == [STP | ENP, ERR | CRC | STP | ENP]
    assert [rig.get(RX, i).result for i in range(2)] == [79, 79]


def test_filter_applies() -> None:
    """A frame for somebody else does not come back."""
    rig = looped()
    rig.queue(0, b"\x02" * 75)
    rig.kick()
    assert rig.get(RX, 0).owned
    assert rig.counter("rx_filtered") == 1


def test_without_a_descriptor_the_looped_frame_is_missed() -> None:
    """No RMD: MISS and CSR112; there is nobody to wait for."""
    rig = Rig()
    rig.boot(mode=LOOP | INTL)
    rig.queue(0, frame(75))
    rig.kick()
    assert rig.csr(0) & MISS
    assert rig.csr(112) == 1


@pytest.mark.parametrize("size", [1, 3, 4, 5, 13, 4090, 4091, 4092, 4093, 4095, 4096])
@pytest.mark.parametrize("mode", [0, DXMTFCS, PROM, PROM | DXMTFCS])
@pytest.mark.parametrize("flags", [0x83, 0xA3])
def test_frame_as_long_as_a_buffer(size: int, mode: int, flags: int) -> None:
    """CVE-2015-7504: appending an FCS to a frame that fills its buffer overruns nothing, whoever appends it."""
    rig = Rig()
    rig.boot(mode=LOOP | INTL | mode, csr4=0x0115)
    rig.put(RX, 0, 0x20000, 4096, OWN)
    rig.put(RX, 1, 0x22000, 16, OWN)
    rig.ram[0x22010:0x22020] = b"\xee" * 16
    rig.ram[0x30000 : 0x30000 + size] = frame(size) if size >= 12 else bytes(size)
    rig.put(TX, 0, 0x30000, size, flags)
    rig.kick()
    assert not rig.get(TX, 0).owned
    assert bytes(rig.ram[0x22010:0x22020]) == b"\xee" * 16
    assert rig.guards_intact


def test_received_frame_that_rearms_the_tmd_is_bounded() -> None:
    """CVE-2021-3416: a frame whose receive buffer is the transmit ring itself re-arms it; each call still ends."""
    rig = Rig()
    rig.boot(mode=LOOP | INTL | PROM, csr4=0x0115)
    tmds = b"".join(0x30000.to_bytes(4, "little") + b"\xc0\xff\x00\x83" + bytes(8) for _ in range(4))
    rig.ram[0x30000:0x30040] = tmds
    for index in range(8):
        rig.put(RX, index, rig.where(TX, 0), 0x44, OWN)
    for index in range(8):
        rig.put(TX, index, 0x30000, 64, 0x83)
    rig.kick()
    for _ in range(50):
        rig.engine.run(2)
        rig.engine.poll()
    assert rig.counter("tx_frames") <= 8 * 101
    assert rig.guards_intact


def test_linux_self_test_passes() -> None:
    """pcnet32_loopback_test: four frames of 75 bytes, CSR0=STRT with neither INIT nor TDMD, polled RMDs."""
    rig = Rig()
    rig.boot(mode=0x0080, rx_log2=5, tx_log2=4)
    rig.queue(0, frame(90))
    rig.kick()  # the interface was in use before
    rig.write_csr(0, 0x0004)
    rig.regs.read(0x14, 2)
    rig.write_csr(4, 0x0915)
    rig.write_bcr(20, 2)
    rig.write_init_block(0x0080, 5, 4, bytes(8))
    rig.write_csr(0, 0x0001)
    assert rig.csr(0) & 0x0100
    rig.write_csr(0, 0x0000)
    rig.write_csr(0, 0x0004)
    rig.lend_all(32)
    sent = [MAC + MAC + bytes([8, 6]) + bytes([i]) * 61 for i in range(4)]
    for index, data in enumerate(sent):
        rig.queue(index, data)
    rig.write_bcr(32, rig.regs.read_bcr(32) | 0x0002)
    rig.write_csr(15, rig.csr(15) & 0xFFFC | 0x0044)
    rig.write_csr(0, 0x0002)
    rig.engine.poll()
    assert [rig.get(RX, i).flags for i in range(4)] == [STP | ENP] * 4
    assert [rig.received(i)[:75] for i in range(4)] == sent
    rig.write_csr(0, 0x0004)
    rig.write_csr(15, rig.csr(15) & ~0x0044)
    assert rig.csr(15) & 0x0044 == 0


def test_external_loopback_needs_the_cable() -> None:
    """LOOP without INTL goes through the transceiver: no link, no carrier."""
    rig = Rig()
    rig.boot(mode=LOOP)
    rig.lend(0)
    rig.regs.set_link(False)
    rig.queue(0, frame(75))
    rig.kick()
    assert rig.get(TX, 0).flags & ERR
    rig.regs.set_link(True)
    rig.queue(1, frame(75))
    rig.kick()
    assert rig.received(0) == with_fcs(frame(75))
