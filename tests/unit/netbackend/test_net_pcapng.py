"""The pcapng writer, against a reader written from the format's definition alone."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import SetupError
from netbackend import pcapng
from netbackend.pcapng import INBOUND, OUTBOUND, SNAPLEN, PcapngWriter

FRAME = bytes.fromhex("ffffffffffff025753000001") + b"\x08\x06" + bytes(46)


@dataclass
class Packet:
    interface: int
    timestamp: int
    original: int
    data: bytes
    flags: int


def options(body):
    """Code -> value of a block's options."""
    found = {}
    while body:
        code, length = struct.unpack_from("=HH", body)
        if code == 0:
            assert (length, body[4:]) == (0, b""), "end of options is last"
            return found
        found[code] = body[4 : 4 + length]
        body = body[4 + (length + 3 & ~3) :]
    return found


def blocks(data):
    """(type, body) of every block; checks both lengths and the alignment."""
    at = 0
    while at < len(data):
        kind, total = struct.unpack_from("=II", data, at)
        assert total % 4 == 0
        assert struct.unpack_from("=I", data, at + total - 4) == (total,)
        yield kind, data[at + 8 : at + total - 4]
        at += total
    assert at == len(data)


def read(path):
    """The interfaces' options and the packets of a capture file."""
    (first, header), *rest = blocks(path.read_bytes())
    assert first == 0x0A0D0D0A
    assert struct.unpack_from("=IHHq", header) == (0x1A2B3C4D, 1, 0, -1)
    interfaces = []
    packets = []
    for kind, body in rest:
        if kind == 1:
            assert struct.unpack_from("=HHI", body) == (1, 0, SNAPLEN)
            interfaces.append(options(body[8:]))
        else:
            assert kind == 6
            packets.append(packet(body))
    return interfaces, packets


def packet(body):
    """What an enhanced packet block says."""
    interface, high, low, length, original = struct.unpack_from("=IIIII", body)
    padded = length + 3 & ~3
    assert not any(body[20 + length : 20 + padded]), "padding is zero"
    (flags,) = struct.unpack("=I", options(body[20 + padded :])[2])
    return Packet(interface, high << 32 | low, original, body[20 : 20 + length], flags)


def test_interfaces_have_names_and_nanosecond_times(tmp_path):
    """Each interface block carries if_name and if_tsresol=9."""
    with PcapngWriter(str(tmp_path / "c"), ("tap0", "guest eth0")):
        pass
    interfaces, packets = read(tmp_path / "c")
    assert interfaces == [{2: b"tap0", 9: b"\x09"}, {2: b"guest eth0", 9: b"\x09"}]
    assert packets == []


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=1600), st.sampled_from([0, INBOUND, OUTBOUND]), st.integers(0, 1), st.integers(0, 2**63)
        ),
        max_size=20,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, frames):
    """Any sequence of frames, of any length from zero, comes back byte for byte with its time and direction."""
    path = tmp_path_factory.mktemp("capture") / "c"
    with PcapngWriter(str(path), ("a", "b")) as writer:
        for frame, direction, interface, when in frames:
            writer.write(memoryview(frame), direction, interface, when)
    _, packets = read(path)
    expected = [Packet(i, when, len(frame), frame, direction) for frame, direction, i, when in frames]
    assert packets == expected


def test_more_than_a_buffer_of_stale_bytes_is_written_whole(tmp_path):
    """Frames beyond the buffer's size, short after long, keep their order and their padding is zero."""
    frames = [bytes([n & 0xFF or 1]) * (1514 - n % 700) for n in range(600)]
    with PcapngWriter(str(tmp_path / "c")) as writer:
        for frame in frames:
            writer.write(frame, OUTBOUND)
    assert [p.data for p in read(tmp_path / "c")[1]] == frames


def test_a_frame_beyond_snaplen_is_cut_and_says_so(tmp_path):
    """The captured length is SNAPLEN, the original length the frame's."""
    with PcapngWriter(str(tmp_path / "c")) as writer:
        writer.write(bytes(SNAPLEN + 5), INBOUND)
    (found,) = read(tmp_path / "c")[1]
    assert (len(found.data), found.original) == (SNAPLEN, SNAPLEN + 5)


def test_times_are_wall_clock_unless_given(tmp_path, monkeypatch):
    """Without a timestamp the frame gets the present time in nanoseconds since 1970."""
    monkeypatch.setattr(pcapng.time, "time_ns", lambda: 1_700_000_000_123_456_789)
    with PcapngWriter(str(tmp_path / "c")) as writer:
        writer.write(FRAME, INBOUND)
    assert read(tmp_path / "c")[1][0].timestamp == 1_700_000_000_123_456_789


def test_frames_reach_the_file_within_a_second_of_the_clock(tmp_path, monkeypatch):
    """Nothing is written early, everything is once a second has passed, by the next call of either kind."""
    now = [0]
    monkeypatch.setattr(pcapng.time, "monotonic_ns", lambda: now[0])
    with PcapngWriter(str(tmp_path / "c")) as writer:
        writer.write(FRAME, INBOUND)
        now[0] = 999_999_999
        writer.flush_if_due()
        assert read(tmp_path / "c")[1] == []
        now[0] = 1_000_000_000
        writer.flush_if_due()
        assert len(read(tmp_path / "c")[1]) == 1
        now[0] = 2_000_000_000
        writer.write(FRAME, INBOUND)
        assert len(read(tmp_path / "c")[1]) == 2


@pytest.mark.parametrize("interface", [-1, 1, 2**40])
def test_an_interface_there_is_none_of_is_refused(tmp_path, interface):
    """A wrong index is a ValueError and leaves the file sound."""
    with PcapngWriter(str(tmp_path / "c")) as writer:
        with pytest.raises(ValueError, match="interface"):
            writer.write(FRAME, INBOUND, interface)
        writer.write(FRAME, INBOUND)
    assert len(read(tmp_path / "c")[1]) == 1


def test_a_path_that_cannot_be_written_is_one_line(tmp_path):
    """No such directory: SetupError with the path and the reason."""
    with pytest.raises(SetupError, match="No such file or directory; choose another path"):
        PcapngWriter(str(tmp_path / "nowhere" / "c"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_ends_the_capture():
    """The first failed write raises SetupError; the writer is closed and closing it again is harmless."""
    with pytest.raises(SetupError, match=r"^capture to /dev/full ended: No space left on device$"):
        PcapngWriter("/dev/full")


def test_a_disk_that_fills_up_later_ends_the_capture(tmp_path):
    """A failure in mid-capture raises once from flush, after which the writer is closed and says so."""
    writer = PcapngWriter(str(tmp_path / "c"))
    writer.write(FRAME, INBOUND)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    with pytest.raises(SetupError, match="No space left"):
        writer.flush()
    assert writer.closed
    writer.close()
    with pytest.raises(SetupError, match="closed"):
        writer.write(FRAME, INBOUND)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_reads_it(tmp_path):
    """Wireshark's own reader agrees on time, interface and direction."""
    path = tmp_path / "c.pcapng"
    with PcapngWriter(str(path)) as writer:
        writer.write(FRAME, OUTBOUND, timestamp=1_700_000_000_000_000_001)
    found = subprocess.run(["tshark", "-r", path, "-T", "json"], capture_output=True, check=True)
    frame = json.loads(found.stdout)[0]["_source"]["layers"]["frame"]
    assert frame["frame.time_epoch"].endswith("000000001Z") or frame["frame.time_epoch"].endswith(".000000001")
    assert frame["frame.interface_id_tree"]["frame.interface_name"] == "tap0"
