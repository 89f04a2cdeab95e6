"""Receive: from frames on the wire to RMDs, and what the driver finds in them."""

from __future__ import annotations

from zlib import crc32

import pytest

from vmapp.lance.filter import hash_index
from vmapp.lance.testkit import MAC, RAM_SIZE, RX, Rig

OWN, ERR, OFLO, BUFF, STP, ENP = 0x80, 0x40, 0x10, 0x04, 0x02, 0x01
PAM, LAFM, BAM = 4, 2, 1
MISS, MERR, RINT = 0x1000, 0x0800, 0x0400
BROADCAST = b"\xff" * 6
GROUP = bytes.fromhex("01005e000001")
STRANGER = bytes.fromhex("020000000001")
UNICAST_WITH_GROUPS_HASH = next(
    address
    for address in (STRANGER[:5] + bytes([last]) for last in range(256))
    if hash_index(address) == hash_index(GROUP)
)


def frame(size: int, destination: bytes = MAC) -> bytes:
    """An IPv4-typed frame of ``size`` bytes."""
    return destination + STRANGER + b"\x08\x00" + bytes(i & 0xFF for i in range(size - 14))


def with_fcs(data: bytes) -> bytes:
    """The frame as it is on a wire."""
    return data + crc32(data).to_bytes(4, "little")


@pytest.fixture(params=[0, 1, 2, 3])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A running chip in each software style."""
    rig = Rig(style=request.param)
    rig.boot()
    return rig


@pytest.mark.parametrize("size", [60, 61, 1000, 1514])
def test_frame_lands_in_its_buffer_with_a_real_fcs(rig: Rig, size: int) -> None:
    """One frame, one RMD: data, FCS, MCNT with FCS, STP and ENP alone, the rest of the RMD kept."""
    rig.lend(0)
    rig.port.waiting.append(frame(size))
    assert rig.engine.receive() == 1
    rmd = rig.get(RX, 0)
    assert rig.received(0) == with_fcs(frame(size))
    assert (rmd.flags, rmd.result, rmd.size) == (STP | ENP, size + 4, 1544)
    assert rmd.address == rig.buffer_address(RX, 0)
    assert rig.csr(0) & RINT


@pytest.mark.parametrize("size", [14, 42, 59])
def test_short_frame_is_padded_as_its_sender_would_have(rig: Rig, size: int) -> None:
    """The TAP hands over unpadded frames; on a wire they would have 60 bytes and FCS."""
    rig.lend(0)
    at = rig.buffer_address(RX, 0)
    rig.ram[at : at + 100] = b"\xee" * 100
    rig.port.waiting.append(frame(size))
    rig.engine.receive()
    assert rig.received(0) == with_fcs(frame(size) + bytes(60 - size))


@pytest.mark.parametrize("room", [1, 14, 16, 59])
def test_short_frame_is_padded_across_tiny_buffers(rig: Rig, room: int) -> None:
    """Pad and FCS follow the frame into as many buffers as they need."""
    rig.boot(rx_log2=7)
    for index in range(64):
        rig.put(RX, index, 0x10000 + index * room, room, OWN)
    rig.port.waiting.append(frame(14))
    rig.engine.receive()
    assert bytes(rig.ram[0x10000 : 0x10000 + 64]) == with_fcs(frame(14) + bytes(46))
    assert rig.get(RX, -(-64 // room) - 1).result == 64


def test_frame_without_a_header_is_an_error(rig: Rig) -> None:
    """Fewer than 14 bytes are no frame: dropped and counted, the RMD stays lent."""
    rig.lend(0)
    rig.port.waiting += [b"", MAC, frame(60)]
    rig.port.waiting.popleft()
    assert rig.engine.receive() == 2
    assert rig.counter("rx_errors") == 1
    assert rig.received(0) == with_fcs(frame(60))


@pytest.mark.parametrize(
    ("mode", "destination", "match"),
    [
        (0x0000, MAC, PAM),
        (0x0000, BROADCAST, BAM),
        (0x0000, GROUP, LAFM),
        (0x0000, STRANGER, None),
        (0x0000, UNICAST_WITH_GROUPS_HASH, None),
        (0x0000, bytes.fromhex("01005e000002"), None),
        (0x2000, MAC, None),
        (0x4000, BROADCAST, None),
        (0x8000, STRANGER, 0),
        (0x8000, MAC, 0),
    ],
)
@pytest.mark.parametrize("style", [0, 1, 2, 3])
def test_address_filter(style: int, mode: int, destination: bytes, match: int | None) -> None:
    """Physical, broadcast, hashed and promiscuous; DRCVPA and DRCVBC; the match bits that 32-bit styles have."""
    rig = Rig(style)
    rig.boot(mode=mode, ladrf=(1 << hash_index(GROUP)).to_bytes(8, "little"))
    rig.lend(0)
    rig.port.waiting.append(frame(60, destination))
    assert rig.engine.receive() == 1
    rmd = rig.get(RX, 0)
    assert rmd.owned == (match is None)
    assert rig.counter("rx_filtered") == (match is None)
    assert match is None or rmd.match == (match if style else 0)


@pytest.mark.parametrize("address", [GROUP, BROADCAST, bytes.fromhex("333300000001")])
def test_hash_is_the_crc_registers_upper_bits(address: bytes) -> None:
    """LADRF's index is what a bit-serial CRC register holds in its upper six bits after the address."""
    register = 0xFFFFFFFF
    for bit in (byte >> i & 1 for byte in address for i in range(8)):
        register = register >> 1 ^ (0xEDB88320 if (register ^ bit) & 1 else 0)
    assert hash_index(address) == register >> 26


def test_filtered_frames_use_no_descriptor(rig: Rig) -> None:
    """Strangers' frames between ours leave the ring's order alone."""
    rig.lend_all(2)
    rig.port.waiting += [frame(60, STRANGER), frame(61), frame(62, STRANGER), frame(63)]
    assert rig.engine.receive() == 4
    assert [rig.received(i) for i in range(2)] == [with_fcs(frame(61)), with_fcs(frame(63))]


def test_full_ring_leaves_frames_on_the_wire(rig: Rig) -> None:
    """No RMD, no read: the frame waits until the driver lends one."""
    rig.lend(0)
    rig.port.waiting += [frame(60), frame(70)]
    assert rig.engine.receive() == 1
    assert rig.engine.receive() == 0
    assert not rig.csr(0) & MISS
    rig.lend(1)
    assert rig.engine.receive() == 1
    assert rig.received(1) == with_fcs(frame(70))


@pytest.mark.parametrize("size", [1544, 40])  # read in place; by way of the scratch buffer
def test_behind_is_what_receive_found_not_what_the_ring_says_now(rig: Rig, size: int) -> None:
    """A RMD lent just after receive() had found none does not make the frames on the wire forgotten."""
    assert rig.engine.receive() == 0
    assert rig.engine.receive_behind, "whether there is a frame could not be seen without a RMD"
    rig.lend(0, size)
    rig.port.waiting += [frame(60)] * 2
    for taken in (1, 0):
        assert rig.engine.receive() == taken
        assert rig.engine.receive_behind
    rig.lend_all(8, 1544)
    assert rig.engine.receive_behind
    assert rig.engine.receive() == 1
    assert not rig.engine.receive_behind


def test_a_burst_leaves_the_rest_behind(rig: Rig) -> None:
    """receive() at its limit has not seen the port empty, whether the receiver hears the wire or drops."""
    rig.lend_all(8)
    rig.port.waiting += [frame(60)] * 3
    assert rig.engine.receive(2) == 2
    assert rig.engine.receive_behind
    rig.regs.set_link(False)
    assert rig.engine.receive(1) == 1
    assert rig.engine.receive_behind
    assert rig.engine.receive(1) == 0
    assert not rig.engine.receive_behind


def test_miss_counts_only_frames_for_this_station(rig: Rig) -> None:
    """miss(): MISS, CSR112 and rx_missed for frames that pass the filter; the others are just gone."""
    rig.port.waiting += [frame(60), frame(60, STRANGER), frame(60, BROADCAST), b"short"]
    assert rig.engine.miss() == 4
    assert rig.csr(0) & MISS
    assert rig.csr(112) == rig.counter("rx_missed") == 2


def test_strangers_frames_are_no_miss(rig: Rig) -> None:
    """Losing what the station would not have heard is no event."""
    rig.port.waiting.append(frame(60, STRANGER))
    assert rig.engine.miss() == 1
    assert not rig.csr(0) & MISS


def test_missed_frame_counter_wraps_with_mfco(rig: Rig) -> None:
    """CSR112 goes from 65535 to 0 and sets CSR4.MFCO."""
    rig.regs.words[112] = 0xFFFF
    rig.port.waiting.append(frame(60))
    rig.engine.miss()
    assert rig.csr(112) == 0
    assert rig.csr(4) & 0x0200


def test_burst_is_bounded(rig: Rig) -> None:
    """receive() takes no more frames than asked for, across several turns of the ring if RMDs come back."""
    rig.lend_all(8)
    rig.port.waiting += [frame(60)] * 20
    assert rig.engine.receive(3) == 3
    assert rig.engine.receive() == 5
    assert len(rig.port.waiting) == 12


@pytest.mark.parametrize("action", ["stopped", "suspended", "loopback", "unplugged"])
def test_deaf_receiver_drops_what_comes(rig: Rig, action: str) -> None:
    """Off, suspended, looped back or unplugged: frames are drained, nothing is stored, missed or counted."""
    rig.lend(0)
    if action == "stopped":
        rig.write_csr(0, 0x0004)
    elif action == "suspended":
        rig.write_csr(5, 0x0001)
    elif action == "loopback":
        rig.boot(mode=0x0044)
    else:
        rig.regs.set_link(False)
    rig.port.waiting += [frame(60)] * 3
    assert not rig.engine.listening
    assert rig.engine.receive() == 3
    assert rig.get(RX, 0).owned
    assert rig.counter("rx_frames") == rig.counter("rx_missed") == 0


@pytest.mark.parametrize("room", [16, 63, 64, 100, 512])
def test_frame_is_chained_over_small_buffers(rig: Rig, room: int) -> None:
    """A frame longer than a buffer goes on in the next RMD: STP in the first, ENP and MCNT in the last."""
    rig.boot(rx_log2=7)
    data = with_fcs(frame(1000))
    count = -(-len(data) // room)
    for index in range(count + 1):
        rig.put(RX, index, 0x10000 + index * room, room, OWN)
    rig.port.waiting.append(frame(1000))
    rig.engine.receive()
    flags = [rig.get(RX, i).flags for i in range(count + 1)]
    assert bytes(rig.ram[0x10000 : 0x10000 + len(data)]) == data
    assert flags == [STP, *[0] * (count - 2), ENP, OWN]
    assert rig.get(RX, count - 1).result == len(data)


@pytest.mark.parametrize("size", [1511, 1512, 1513, 1514])
def test_fcs_may_spill_into_the_next_buffer(rig: Rig, size: int) -> None:
    """A buffer that holds the frame but not all of its FCS: the rest of the FCS is in the next one."""
    for index in range(2):
        rig.put(RX, index, 0x10000 + index * 1514, 1514, OWN)
    rig.port.waiting.append(frame(size))
    rig.engine.receive()
    assert bytes(rig.ram[0x10000 : 0x10000 + size + 4]) == with_fcs(frame(size))


def test_no_next_buffer_is_an_overrun(rig: Rig) -> None:
    """The next RMD is the driver's: ERR, BUFF and OFLO without ENP, RINT, and the ring goes on behind it."""
    rig.lend(0, 512)
    rig.port.waiting.append(frame(1000))
    rig.engine.receive()
    assert rig.get(RX, 0).flags == ERR | OFLO | BUFF | STP
    assert rig.csr(0) & RINT
    assert rig.counter("rx_errors") == 1
    rig.lend(1)
    rig.port.waiting.append(frame(60))
    rig.engine.receive()
    assert rig.received(1) == with_fcs(frame(60))


@pytest.mark.parametrize("log2", [0, 1, 2])
def test_frame_larger_than_the_whole_ring_is_an_overrun(rig: Rig, log2: int) -> None:
    """A frame that would wrap around onto RMDs it has already used ends there, down to a ring of one."""
    rig.boot(rx_log2=log2)
    rig.lend_all(1 << log2, 100)
    rig.port.waiting.append(frame(1000))
    rig.engine.receive()
    flags = [rig.get(RX, i).flags for i in range(1 << log2)]
    assert flags[0] & STP
    assert flags[-1] & (ERR | OFLO | BUFF | ENP) == ERR | OFLO | BUFF
    assert not any(flag & OWN for flag in flags)


@pytest.mark.parametrize(("inner", "kept"), [(0, 14), (10, 24), (45, 59), (46, 64), (0x0800, 64)])
def test_pad_stripping(rig: Rig, inner: int, kept: int) -> None:
    """ASTRP_RCV: pad and FCS go when the 802.3 length field is below 46, and only then."""
    rig.write_csr(4, 0x0D15)
    rig.lend(0)
    data = MAC + STRANGER + inner.to_bytes(2, "big") + bytes(46)
    rig.port.waiting.append(data)
    rig.engine.receive()
    assert rig.received(0) == with_fcs(data)[:kept]


def test_buffer_outside_memory_is_reported(rig: Rig) -> None:
    """A frame that goes on beyond RAM costs the frame, MERR and the RMD; the ring goes on."""
    rig.put(RX, 0, RAM_SIZE - 63, 1544, OWN)
    rig.lend(1)
    rig.port.waiting += [frame(60), frame(61)]
    assert rig.engine.receive() == 2
    assert rig.get(RX, 0).flags == ERR | OFLO | STP
    assert rig.csr(0) & MERR
    assert rig.received(1) == with_fcs(frame(61))
    assert rig.guards_intact


def test_a_tail_that_stays_unused_need_not_be_there(rig: Rig) -> None:
    """A buffer of which the last bytes lie outside RAM takes a frame that ends before them."""
    rig.put(RX, 0, RAM_SIZE - 64, 1544, OWN)
    rig.port.waiting.append(frame(60))
    assert rig.engine.receive() == 1
    assert rig.get(RX, 0).flags == STP | ENP
    assert bytes(rig.ram[-64:]) == with_fcs(frame(60))
    assert not rig.csr(0) & MERR
    assert rig.guards_intact


def test_capture_hook_sees_what_was_stored(rig: Rig) -> None:
    """on_receive gets stored frames without FCS, however they were stored; not the filtered ones."""
    seen: list[bytes] = []
    rig.engine.on_receive = lambda data: seen.append(bytes(data))
    rig.lend(0)
    rig.lend(1, 100)
    rig.lend(2)
    rig.port.waiting += [frame(500), frame(300, STRANGER), frame(200)]
    rig.engine.receive()
    assert seen == [frame(500), frame(200)]


def test_filter_may_change_while_suspended(rig: Rig) -> None:
    """SPND, new LADRF and CSR15, SPND off: the next frames meet the new filter (Linux' set_rx_mode)."""
    rig.lend_all(3)
    rig.port.waiting += [frame(60, GROUP), frame(61)]
    rig.engine.receive()
    rig.write_csr(5, 0x0001)
    for i in range(4):
        rig.write_csr(8 + i, 0xFFFF)
    rig.write_csr(5, 0x0000)
    rig.port.waiting.append(frame(62, GROUP))
    rig.engine.receive()
    rig.write_csr(5, 0x0001)
    rig.write_csr(15, 0x8000)
    rig.write_csr(5, 0x0000)
    rig.port.waiting.append(frame(63, STRANGER))
    rig.engine.receive()
    received = [with_fcs(frame(61)), with_fcs(frame(62, GROUP)), with_fcs(frame(63, STRANGER))]
    assert [rig.received(i) for i in range(3)] == received


@pytest.mark.parametrize("size", [4091, 4092])
def test_mcnt_has_twelve_bits(rig: Rig, size: int) -> None:
    """A frame of 4096 bytes with FCS has MCNT 0; the reserved bits above it stay zero."""
    rig.put(RX, 0, 0x10000, 4096, OWN)
    rig.port.waiting.append(frame(size))
    rig.engine.receive()
    assert rig.get(RX, 0).result == (size + 4) % 4096
    assert rig.get(RX, 0).flags == STP | ENP
