"""The control channel: whole messages, closed ends, and packets that are no message."""

from __future__ import annotations

import os
import socket

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.control import Channel
from machine.errors import ControlError

SCALAR = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text() | st.binary()
MESSAGES = st.dictionaries(st.text(), SCALAR | st.lists(SCALAR, max_size=4), max_size=6)


@pytest.fixture
def ends():
    """Two connected ends."""
    here, there = Channel.pair()
    yield here, there
    here.close()
    there.close()


@pytest.fixture
def raw():
    """A channel, and the bare socket at its other end."""
    bare, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(end)
    yield channel, bare
    channel.close()
    bare.close()


@given(st.lists(MESSAGES, max_size=5))
def test_messages_arrive_whole_and_in_order(messages: list[dict[str, object]]):
    """What was sent is received, map by map, with bytes and text kept apart."""
    here, there = Channel.pair()
    for message in messages:
        here.send(message)
    assert [there.receive(1) for _ in messages] == messages
    here.close()
    assert there.receive(1) is None
    there.close()


def test_an_inherited_descriptor(ends: tuple[Channel, Channel]):
    """An end that is known by its number alone."""
    here, there = ends
    again = Channel.from_fd(os.dup(there.fileno()))
    again.send({"a": 1})
    assert here.receive(1) == {"a": 1}
    again.close()


def test_large_messages(ends: tuple[Channel, Channel]):
    """Both series of the largest probe fit into one message."""
    here, there = ends
    message = {"vmm": bytes(80_000), "vmapp": bytes(80_000)}
    here.send(message)
    assert there.receive(1) == message


@pytest.mark.parametrize("timeout", [0.0, 0.01])
def test_no_answer_in_time(ends: tuple[Channel, Channel], timeout: float):
    """A time limit, zero included, ends in a ControlError and leaves the channel usable."""
    here, there = ends
    with pytest.raises(ControlError):
        here.receive(timeout)
    there.send({"late": True})
    assert here.receive(1) == {"late": True}


@pytest.mark.parametrize("unread", [1, 3])
def test_last_words_of_an_end_that_did_not_listen(ends: tuple[Channel, Channel], unread: int):
    """An end that closes with messages of ours unread: what it said before it closed is received, and then None."""
    here, there = ends
    for _ in range(unread):
        here.send({"command": "stop"})
    there.send({"event": "failed"})
    there.send({"event": "really"})
    there.close()
    assert [here.receive(1) for _ in range(4)] == [{"event": "failed"}, {"event": "really"}, None, None]


def test_the_other_end_is_gone(ends: tuple[Channel, Channel]):
    """Receiving says None, sending raises; no signal kills the process."""
    here, there = ends
    there.close()
    assert here.receive(1) is None
    with pytest.raises(ControlError, match="closed"):
        here.send({"a": 1})


def test_closed_with_a_message_unread(raw: tuple[Channel, socket.socket]):
    """The other end went away without reading what it was sent: that is its end, not an error."""
    channel, bare = raw
    channel.send({"a": 1})
    bare.close()
    assert channel.receive(1) is None


@pytest.mark.parametrize("packet", [b"\xc1", b"\x81", b"\x81\xa1a", b"\xdf\xff\xff\xff\xff", b"\x01\x02"])
def test_packets_that_are_not_msgpack(raw: tuple[Channel, socket.socket], packet: bytes):
    """Truncated, reserved, over-long: one ControlError."""
    channel, bare = raw
    bare.send(packet)
    with pytest.raises(ControlError, match="not msgpack"):
        channel.receive(1)


@pytest.mark.parametrize("value", [1, "text", [1, 2], None, b"bytes"])
def test_messages_that_are_no_map(raw: tuple[Channel, socket.socket], value: object):
    """Any other kind of value is refused."""
    channel, bare = raw
    bare.send(msgpack.packb(value))
    with pytest.raises(ControlError, match="not a map"):
        channel.receive(1)


@given(st.binary(min_size=1, max_size=200))
def test_any_packet_is_a_map_or_an_error(packet: bytes):
    """Whatever arrives: a map, or ControlError, and nothing else."""
    bare, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(end)
    bare.send(packet)
    try:
        message = channel.receive(1)
    except ControlError:
        message = {}
    assert isinstance(message, dict)
    bare.close()
    channel.close()
