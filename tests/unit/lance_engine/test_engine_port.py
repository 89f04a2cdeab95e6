"""TapPort over ordinary descriptors: system calls, what they count, and what the kernel may refuse."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from machine.counters import VMAPP, indices
from vmapp.lance.port import TapPort

INDEX = indices(VMAPP)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that keep message boundaries, as a TAP does."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


def page() -> memoryview:
    """An empty counter page."""
    return memoryview(bytearray(8 * len(INDEX))).cast("Q")


def test_frame_in_one_piece_and_in_several(wire: tuple[socket.socket, socket.socket]) -> None:
    """send() takes a view or a list of views; each is one message."""
    counters = page()
    port = TapPort(wire[0].fileno(), counters)
    assert port.send(memoryview(b"whole"))
    assert port.send([memoryview(b"in "), memoryview(b"parts")])
    assert [wire[1].recv(100), wire[1].recv(100)] == [b"whole", b"in parts"]
    assert counters[INDEX["tap_writes"]] == 2


def test_reading_fills_the_pieces_and_says_when_nothing_waits(wire: tuple[socket.socket, socket.socket]) -> None:
    """recv_into() spreads one message over the pieces; 0 when there is none."""
    counters = page()
    port = TapPort(wire[0].fileno(), counters)
    wire[1].send(b"abcdefgh")
    first, second = bytearray(3), bytearray(100)
    assert port.recv_into([memoryview(first), memoryview(second)]) == 8
    assert bytes(first) + bytes(second[:5]) == b"abcdefgh"
    assert port.recv_into([memoryview(first)]) == 0
    assert (counters[INDEX["tap_reads"]], counters[INDEX["tap_empty_reads"]]) == (1, 1)


def test_full_queue_loses_the_frame_and_counts_it(wire: tuple[socket.socket, socket.socket]) -> None:
    """EAGAIN is no exception: False, and tap_write_errors."""
    counters = page()
    port = TapPort(wire[0].fileno(), counters)
    results = [port.send(memoryview(bytes(60000))) for _ in range(100)]
    assert results[0]
    assert not results[-1]
    assert counters[INDEX["tap_write_errors"]] == results.count(False)


def test_far_end_that_is_gone_is_silence(wire: tuple[socket.socket, socket.socket]) -> None:
    """A wire whose other end has left loses frames and brings none."""
    port = TapPort(wire[0].fileno())
    wire[1].close()
    assert not port.send(memoryview(b"frame"))
    assert port.recv_into([memoryview(bytearray(10))]) == 0


def test_closed_descriptor_is_a_defect() -> None:
    """Using the port after its descriptor was closed is not a lost frame: it raises."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        TapPort(writer).send(memoryview(b"frame"))
