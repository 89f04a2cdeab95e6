"""Transmit: from TMDs to frames on the wire, and what the driver finds in the TMDs afterwards."""

from __future__ import annotations

from zlib import crc32

import pytest

from vmapp.lance.testkit import MAC, RAM_SIZE, TX, Rig

STYLES = [0, 1, 2, 3]
ERR, OWN, STP, ENP = 0x40, 0x80, 0x02, 0x01
BUFF, UFLO, LCAR, RTRY = 0x20, 0x10, 0x02, 0x01  # TMD2 31:26, shifted down
BABL, CERR, MERR, TINT, TXON, TDMD = 0x4000, 0x2000, 0x0800, 0x0200, 0x0010, 0x0008


def frame(size: int, seed: int = 1) -> bytes:
    """A frame of ``size`` bytes that tells by its contents which one it is."""
    return MAC + MAC + bytes((seed + i) & 0xFF for i in range(size - 12))


def fcs(data: bytes) -> bytes:
    """A frame's check sequence in wire order."""
    return crc32(data).to_bytes(4, "little")


@pytest.fixture(params=STYLES)
def rig(request: pytest.FixtureRequest) -> Rig:
    """A running chip in each software style."""
    rig = Rig(style=request.param)
    rig.boot()
    return rig


def test_init_block_fills_the_registers(rig: Rig) -> None:
    """INIT fetches mode, addresses, ring bases and lengths in every style, and sets IDON."""
    assert rig.csr(0) & 0x0033 == 0x0033
    rig.write_csr(0, 0x0004)
    rig.write_csr(0, 0x0001)
    assert rig.csr(0) & 0x0137 == 0x0101
    assert [rig.csr(i).to_bytes(2, "little") for i in (12, 13, 14)] == [MAC[:2], MAC[2:4], MAC[4:]]
    assert rig.csr(76) == rig.csr(78) == 0x10000 - 8
    assert rig.csr(24) | rig.csr(25) << 16 == rig.where("rx", 0)
    assert rig.csr(30) | rig.csr(31) << 16 == rig.where("tx", 0)


def test_one_frame_goes_out_and_its_tmd_comes_back(rig: Rig) -> None:
    """A whole frame in one TMD is sent as it is; OWN, ERR and the retry bits are clear, the rest is kept."""
    data = frame(1514)
    rig.queue(0, data, 0x80 | 0x10 | 0x0C | STP | ENP)
    rig.kick()
    tmd = rig.get(TX, 0)
    assert rig.port.sent == [data]
    assert (tmd.flags, tmd.address, tmd.size) == (STP | ENP, rig.buffer_address(TX, 0), 1514)
    assert rig.csr(0) & (TINT | TDMD) == TINT
    assert rig.csr(4) & 0x0008, "TXSTRT"


@pytest.mark.parametrize("size", [42, 1000])
def test_stale_error_bits_are_cleared(rig: Rig, size: int) -> None:
    """The driver left old error bits in the TMD: none of them survives a good transmission, BCNT does."""
    rig.queue(0, frame(size), 0xC3)
    at = rig.where(TX, 0) + {0: 7, 3: 3}.get(rig.style, 11)
    rig.ram[at] = 0xFC
    rig.kick()
    assert (rig.get(TX, 0).flags, rig.get(TX, 0).result, rig.get(TX, 0).size) == (STP | ENP, 0, size)


@pytest.mark.parametrize("size", [42, 1000])
def test_full_ring_in_one_go_leaves_nothing_pending(rig: Rig, size: int) -> None:
    """As many frames as the ring has TMDs: all sent, TDMD clear."""
    for index in range(8):
        rig.queue(index, frame(size, index))
    rig.kick()
    assert len(rig.port.sent) == 8
    assert not rig.engine.transmit_pending
    assert not rig.csr(0) & TDMD


def test_frames_leave_in_order_and_the_ring_wraps(rig: Rig) -> None:
    """Three turns of an eight-entry ring in bursts of five: each frame once, in order."""
    sent = [frame(60 + i, i) for i in range(25)]
    for i, data in enumerate(sent):
        rig.queue(i % 8, data)
        if i % 5 == 4:
            rig.kick()
    assert rig.port.sent == sent
    assert rig.counter("tx_frames") == 25
    assert rig.counter("tx_bytes") == sum(map(len, sent))


def test_short_frame_is_padded_to_sixty(rig: Rig) -> None:
    """APAD_XMT: 42 bytes leave as 60, the pad zeros; without it they leave as they are."""
    rig.queue(0, frame(42))
    rig.kick()
    rig.write_csr(4, 0x0115)
    rig.queue(1, frame(42))
    rig.kick()
    assert rig.port.sent == [frame(42) + bytes(18), frame(42)]


def test_chain_of_tmds_is_one_frame(rig: Rig) -> None:
    """STP, middle, ENP in three TMDs make one frame; one TINT, all three handed back."""
    data = frame(900)
    for index, (part, flags) in enumerate([(data[:100], 0x82), (data[100:101], 0x80), (data[101:], 0x81)]):
        rig.queue(index, part, flags)
    rig.kick()
    assert rig.port.sent == [data]
    assert [rig.get(TX, i).flags for i in range(3)] == [STP, 0, ENP]


@pytest.mark.parametrize("last", [frame(1000), frame(30)], ids=["whole", "padded"])
def test_a_frame_handed_over_while_the_chip_is_at_work(rig: Rig, monkeypatch: pytest.MonkeyPatch, last: bytes) -> None:
    """A driver that sees the last TMD still owned does not kick; so the chip looks once more when it has sent it."""
    handed_over = iter([lambda: rig.queue(1, frame(1000, 2)), lambda: None])
    monkeypatch.setattr(rig.engine._transmitter, "_fence", lambda: next(handed_over)())
    rig.queue(0, last)
    rig.kick()
    assert len(rig.port.sent) == 2
    assert not rig.get(TX, 1).owned


@pytest.mark.parametrize("dxsuflo", [False, True])
def test_unfinished_chain_is_an_underflow(rig: Rig, dxsuflo: bool) -> None:
    """STP without ENP before a TMD of the driver's: BUFF and UFLO; the transmitter goes off unless DXSUFLO."""
    rig.write_csr(3, 0x0040 if dxsuflo else 0)
    rig.queue(0, frame(100), OWN | STP)
    rig.kick()
    tmd = rig.get(TX, 0)
    assert rig.port.sent == []
    assert (tmd.flags, tmd.result) == (ERR | STP, BUFF | UFLO)
    assert rig.csr(0) & TINT
    assert bool(rig.csr(0) & TXON) == dxsuflo
    assert rig.counter("tx_errors") == 1


def test_tmd_without_stp_is_skipped(rig: Rig) -> None:
    """A TMD that does not start a frame goes back unsent, and the next frame is sent."""
    rig.queue(0, frame(64), OWN)
    rig.queue(1, frame(64), OWN | ENP)
    rig.queue(2, frame(99))
    rig.kick()
    assert rig.port.sent == [frame(99)]
    assert [rig.get(TX, i).owned for i in range(3)] == [False] * 3


def test_bcnt_zero_means_4096(rig: Rig) -> None:
    """BCNT 0 is a 4096-byte buffer; a frame that long is babble but goes out."""
    address = rig.buffer_address(TX, 0)
    rig.ram[address : address + 4096] = frame(4096)
    rig.put(TX, 0, address, 0, 0x83)
    rig.kick()
    assert rig.port.sent == [frame(4096)]
    assert rig.csr(0) & BABL


@pytest.mark.parametrize(("size", "babble"), [(1514, False), (1515, True)])
def test_babble_begins_beyond_1518_with_fcs(rig: Rig, size: int, babble: bool) -> None:
    """BABL says that more than 1518 bytes, FCS included, were on the wire."""
    rig.queue(0, frame(size))
    rig.kick()
    assert bool(rig.csr(0) & BABL) == babble
    assert len(rig.port.sent) == 1


def test_no_link_is_loss_of_carrier(rig: Rig) -> None:
    """Without a cable the frame is lost: LCAR and ERR in the TMD, CERR and ERR in CSR0."""
    rig.regs.set_link(False)
    rig.queue(0, frame(64))
    rig.kick()
    assert rig.port.sent == []
    assert (rig.get(TX, 0).flags, rig.get(TX, 0).result) == (ERR | STP | ENP, LCAR)
    assert rig.csr(0) & 0xA200 == 0xA200


@pytest.mark.parametrize("style", [0, 2, 3])
def test_driver_appends_the_fcs_itself(style: int) -> None:
    """DXMTFCS: the last four bytes are the driver's FCS; stripped if right, the frame lost if wrong."""
    rig = Rig(style)
    rig.boot(mode=0x0008)
    rig.queue(0, frame(100) + fcs(frame(100)))
    rig.queue(1, frame(100) + b"oops")
    rig.queue(2, frame(200), 0x83 | 0x20)
    rig.kick()
    assert rig.port.sent == [frame(100), frame(200)], "ADD_FCS overrides DXMTFCS"
    assert rig.counter("tx_errors") == 1


def test_frame_with_a_wrong_fcs_has_been_sent() -> None:
    """DXMTFCS: TXSTRT says that a transmission has begun, whatever becomes of the frame."""
    rig = Rig()
    rig.boot(mode=0x0008)
    rig.queue(0, frame(100) + b"oops")
    rig.kick()
    assert rig.port.sent == []
    assert rig.csr(4) & 0x0008


def test_ilacc_has_no_fcs_instead_of_add_fcs() -> None:
    """Style 1, bit 29: the driver's own FCS is in the frame."""
    rig = Rig(1)
    rig.boot()
    rig.queue(0, frame(100) + fcs(frame(100)), 0x83 | 0x20)
    rig.queue(1, frame(100))
    rig.kick()
    assert rig.port.sent == [frame(100), frame(100)]


def test_padding_overrides_dxmtfcs() -> None:
    """APAD_XMT: a padded frame gets the chip's FCS whatever DXMTFCS says, so nothing is stripped."""
    rig = Rig()
    rig.boot(mode=0x0008)
    rig.queue(0, frame(42))
    rig.kick()
    assert rig.port.sent == [frame(42) + bytes(18)]


@pytest.mark.parametrize(
    ("csr5", "flags", "tint"),
    [(0, 0x83, True), (0x8000, 0x83, False), (0x4000, 0x83, False), (0x4000, 0x93, True), (0xC000, 0x93, True)],
)
def test_which_frames_give_a_tint(rig: Rig, csr5: int, flags: int, tint: bool) -> None:
    """TOKINTD silences good frames; LTINTEN lets only those with LTINT speak, and overrides TOKINTD."""
    rig.write_csr(5, csr5)
    rig.queue(0, frame(64), flags)
    rig.kick()
    assert bool(rig.csr(0) & TINT) == tint


def test_bad_frames_give_a_tint_in_spite_of_tokintd(rig: Rig) -> None:
    """An error is always reported."""
    rig.write_csr(5, 0x8000)
    rig.queue(0, frame(64), OWN | STP)
    rig.kick()
    assert rig.csr(0) & TINT


def test_suspended_transmitter_waits(rig: Rig) -> None:
    """SPND: nothing is sent and nothing is lost; the frame goes out when the driver resumes and polls."""
    rig.write_csr(5, 0x0001)
    rig.queue(0, frame(64))
    rig.kick()
    assert rig.port.sent == []
    assert not rig.engine.wants_poll
    assert not rig.engine.transmit_pending
    rig.write_csr(5, 0)
    rig.engine.poll()
    assert rig.port.sent == [frame(64)]


def test_autonomous_poll(rig: Rig) -> None:
    """DPOLL clear: a TMD is found without TDMD; DPOLL set: it is not looked for."""
    rig.queue(0, frame(64))
    assert rig.engine.poll()
    assert not rig.engine.poll()
    rig.write_csr(4, 0x1915)
    rig.queue(1, frame(64))
    assert not rig.engine.wants_poll
    assert not rig.engine.poll()
    assert len(rig.port.sent) == 1


def test_ring_position_survives_stop_and_start(rig: Rig) -> None:
    """STOP, then STRT without INIT: transmission goes on at the next TMD."""
    rig.queue(0, frame(64))
    rig.kick()
    rig.write_csr(0, 0x0004)
    rig.write_csr(0, 0x0042)
    rig.queue(1, frame(65))
    rig.kick()
    assert rig.port.sent == [frame(64), frame(65)]
    assert rig.csr(74) == (rig.csr(78) + 2) & 0xFFFF
    assert rig.csr(34) | rig.csr(35) << 16 == rig.where(TX, 2)


def test_buffer_outside_memory_is_reported(rig: Rig) -> None:
    """A buffer beyond RAM: MERR, the TMD back with an error, nothing sent, nothing touched."""
    rig.put(TX, 0, RAM_SIZE - 10, 64, 0x83)
    rig.kick()
    assert rig.csr(0) & MERR
    assert rig.get(TX, 0).flags == ERR | STP | ENP
    assert rig.counter("memory_errors") == 1
    assert rig.guards_intact


def test_endless_rearming_does_not_hold_the_caller() -> None:
    """One turn of the ring per call: a guest that re-arms what was just sent leaves TDMD and transmit_pending."""
    rig = Rig()
    rig.boot()
    rig.engine.on_transmit = lambda _: rig.queue(0, frame(64))
    for index in range(8):
        rig.queue(index, frame(64))
    rig.kick()
    assert len(rig.port.sent) <= 9
    assert rig.engine.transmit_pending
    assert rig.csr(0) & TDMD


def test_capture_hook_sees_each_frame_without_fcs(rig: Rig) -> None:
    """on_transmit gets plain, padded and chained frames as they are on the wire."""
    seen: list[bytes] = []
    rig.engine.on_transmit = lambda data: seen.append(bytes(data))
    rig.queue(0, frame(1000))
    rig.queue(1, frame(20))
    rig.queue(2, frame(100)[:50], 0x82)
    rig.queue(3, frame(100)[50:], 0x81)
    rig.kick()
    assert seen == rig.port.sent == [frame(1000), frame(20) + bytes(40), frame(100)]


def test_lost_frame_on_a_full_wire_is_not_the_guests_problem(rig: Rig) -> None:
    """A port that refuses frames does not stop the ring."""
    rig.port.refuses = True
    rig.queue(0, frame(64))
    rig.kick()
    assert not rig.get(TX, 0).flags & (OWN | ERR)


def test_24_bit_addresses_are_extended_by_csr2() -> None:
    """SSIZE32=0: the upper byte of every address is IADRH, the upper byte of CSR2."""
    rig = Rig(0)
    rig.boot()
    rig.write_csr(0, 0x0004)
    rig.write_csr(2, 0xFF00)
    rig.write_csr(0, 0x0002)
    rig.kick()
    assert rig.csr(0) & MERR, "0xff006000 is not RAM"


def test_forced_collision_gives_up_after_retries(rig: Rig) -> None:
    """FCOLL in internal loopback: RTRY, and no frame comes back."""
    rig.boot(mode=0x0054)
    rig.lend(0)
    rig.queue(0, frame(64))
    rig.kick()
    assert rig.get(TX, 0).result == RTRY
    assert rig.get("rx", 0).owned
