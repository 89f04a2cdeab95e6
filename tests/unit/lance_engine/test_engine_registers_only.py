"""Initialisation by registers alone: no init block, STRT without INIT (data sheet, "Re-initialization")."""

from __future__ import annotations

import pytest

from machine.lance.state import CSR
from vmapp.lance.testkit import MAC, RX, TX, Rig

RX_RING, TX_RING = 0x2000, 0x6000
FRAME = MAC + bytes.fromhex("0200000000010800") + bytes(86)


def start(rig: Rig, rx: int = 8, tx: int = 4) -> None:
    """Mode, address and rings, as the data sheet lists them, then STRT and INEA."""
    for csr, value in ((15, 0), (24, RX_RING), (25, 0), (30, TX_RING), (31, 0), (47, 0), (76, -rx), (78, -tx)):
        rig.write_csr(csr, value & 0xFFFF)
    rig.write_csr(0, 0x0042)


@pytest.mark.parametrize("style", [0, 2, 3])
def test_both_rings_begin_at_their_first_descriptor(style: int) -> None:
    """CSR76 and CSR78 load the counters: the first frame either way uses descriptor 0, the next one descriptor 1."""
    rig = Rig(style)
    start(rig)
    rig.lend_all(8)
    rig.port.waiting += [FRAME, FRAME]
    rig.engine.receive()
    assert [rig.get(RX, i).owned for i in range(3)] == [False, False, True]
    rig.queue(0, FRAME)
    rig.queue(1, FRAME)
    rig.kick()
    assert rig.port.sent == [FRAME, FRAME]
    assert [rig.csr(i) for i in (72, 74)] == [0x10000 - 6, 0x10000 - 2]


def test_a_second_start_begins_anew() -> None:
    """After STOP the same registers once more, and the rings begin at their first descriptors again."""
    rig = Rig()
    for _ in range(2):
        start(rig)
        rig.queue(0, FRAME)
        rig.kick()
        assert not rig.get(TX, 0).owned
        rig.write_csr(0, 0x0004)
    assert rig.port.sent == [FRAME, FRAME]


def test_a_counter_may_be_set_after_its_length() -> None:
    """A driver that writes CSR74 last begins where it says."""
    rig = Rig()
    for csr, value in ((30, TX_RING), (31, 0), (78, -4), (74, -2)):
        rig.write_csr(csr, value & 0xFFFF)
    rig.write_csr(0, 0x0002)
    rig.queue(2, FRAME)
    rig.kick()
    assert rig.port.sent == [FRAME]


def test_a_running_chip_keeps_length_and_counter() -> None:
    """Neither takes a write outside STOP and SPND."""
    rig = Rig()
    start(rig)
    before = [rig.csr(i) for i in (72, 74, 76, 78)]
    for csr in (76, 78):
        rig.write_csr(csr, 0xFFFE)
    assert [rig.csr(i) for i in (72, 74, 76, 78)] == before
    rig.write_csr(5, 0x0001)
    rig.write_csr(76, 0xFFFE)
    assert rig.regs.words[CSR + 72] == 0xFFFE
