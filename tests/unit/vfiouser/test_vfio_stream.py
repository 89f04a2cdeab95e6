"""A byte stream taken apart: pieces, several messages at once, sizes that cannot be, and descriptors in every place."""

from __future__ import annotations

import array
import os
import socket

import pytest

from tests.kit.vfioclient import VfioClient, encode
from tests.kit.vfiodevice import ServedDevice, open_descriptors
from vmm.vfiouser.messages import (
    ACCESS,
    DMA_MAP,
    HEADER,
    MAX_DESCRIPTORS,
    MAX_MESSAGE,
    PAGE,
    Command,
    HeaderFlag,
)

READ = encode(Command.REGION_READ, ACCESS.pack(0, 0, 4), ident=9)


def mapping(number: int) -> bytes:
    """A DMA_MAP of page ``number``, with that id."""
    return encode(Command.DMA_MAP, DMA_MAP.pack(DMA_MAP.size, 3, 0, number * PAGE, PAGE), ident=number)


def memfds(count: int) -> list[int]:
    """New files of one page."""
    fds = [os.memfd_create(f"ram{i}") for i in range(count)]
    for fd in fds:
        os.ftruncate(fd, PAGE)
    return fds


def inodes(fds: list[int]) -> list[int]:
    """The files that the descriptors refer to; the descriptors are closed."""
    found = [os.fstat(fd).st_ino for fd in fds]
    for fd in fds:
        os.close(fd)
    return found


@pytest.mark.parametrize("piece", [1, 3, 16, 31])
def test_pieces(served: ServedDevice, client: VfioClient, piece: int) -> None:
    """A message may come in pieces of any size; the server waits for none of them, and answers after the last."""
    for start in range(0, len(READ), piece):
        client.send_bytes(READ[start : start + piece])
        last = start + piece >= len(READ)
        assert served.pump() == (1 if last else 0)
    assert client.receive().ident == 9


def test_many_at_once(served: ServedDevice, client: VfioClient) -> None:
    """Messages that came together are carried out in order, one for each step, and are seen as pending."""
    messages = [encode(Command.REGION_WRITE, ACCESS.pack(i, 0, 1) + b"x", ident=i) for i in range(30)]
    client.send_bytes(b"".join(messages) + READ[:20])
    assert not served.server.pending
    for i in range(30):
        assert served.server.step()
        assert served.server.pending == (i < 29)
    assert not served.server.step()
    client.send_bytes(READ[20:])
    assert [client.receive().ident for _ in range(31)] == [*range(30), 9]


def test_a_stream_longer_than_the_buffer(served: ServedDevice, client: VfioClient) -> None:
    """Far more than fits the buffer, in messages of an odd size that its end cuts anywhere."""
    one = encode(Command.REGION_WRITE, ACCESS.pack(0, 5, 1001) + bytes(1001), flags=HeaderFlag.NO_REPLY)
    client.connection.setblocking(False)
    stream = memoryview(one * 200)
    while stream:
        try:
            stream = stream[client.connection.send(stream) :]
        except BlockingIOError:
            served.pump()
    served.pump()
    assert served.device.writes == 200


@pytest.mark.parametrize("size", [0, 1, HEADER.size - 1, MAX_MESSAGE + 1, 1 << 31, (1 << 32) - 1])
def test_sizes_that_cannot_be(served: ServedDevice, client: VfioClient, size: int) -> None:
    """A size below the header's or above the largest ends the connection: nobody knows where the next begins."""
    client.send_bytes(encode(Command.DEVICE_RESET, size=size))
    with pytest.raises(ConnectionError):
        client.receive()
    assert served.device.resets == 1  # the one for the client's end
    assert served.greet().device_info()


def test_largest_message(client: VfioClient) -> None:
    """A message of exactly the largest size is taken."""
    client.send_bytes(encode(Command.DEVICE_RESET, bytes(MAX_MESSAGE - HEADER.size), ident=3))
    assert client.receive().ident == 3


@pytest.mark.parametrize("kind", [1, 2, 15])
def test_only_commands(served: ServedDevice, client: VfioClient, kind: int) -> None:
    """A reply to nothing, or a type that does not exist, ends the connection."""
    client.send(Command.DEVICE_RESET, flags=kind)
    with pytest.raises(ConnectionError):
        client.receive()
    assert not served.server.connected


def test_unknown_flags_are_ignored(client: VfioClient) -> None:
    """Bits that the header does not define, and the error bit of a command, mean nothing."""
    client.send(Command.DEVICE_RESET, flags=0xFFFFFFE0)
    assert client.receive().errno == 0


def test_a_client_that_does_not_read(served: ServedDevice, client: VfioClient) -> None:
    """A client that lets replies pile up is dropped; the server never waits for it."""
    big = encode(Command.REGION_READ, ACCESS.pack(0, 5, 4096))
    client.connection.setblocking(False)
    for _ in range(10_000):
        try:
            client.connection.send(big)
        except (BlockingIOError, ConnectionError):
            break
        served.pump()
    assert not served.server.connected
    assert [line for line in served.log if "does not read" in line]
    assert served.greet().device_info()


# -- descriptors --------------------------------------------------------------------------------------------


def test_each_message_gets_its_own_descriptors(served: ServedDevice, client: VfioClient) -> None:
    """Messages sent one behind the other, some with a descriptor, are not mixed up however they are read."""
    fds = memfds(4)
    for number in range(8):
        client.send_bytes(mapping(number), [fds[number // 2]] if number % 2 else [])
    served.pump()
    files = inodes(fds)
    assert [w[2] for w in served.device.windows] == [None, files[0], None, files[1], None, files[2], None, files[3]]


def test_descriptors_with_any_piece(served: ServedDevice, client: VfioClient) -> None:
    """A descriptor may come with any piece of its message; the next message's goes to the next message."""
    for piece in range(3):
        fds = memfds(2)
        message = mapping(0)
        for number, data in enumerate((message[:10], message[10:30], message[30:])):
            client.send_bytes(data, [fds[0]] if number == piece else [])
            if piece == 2:
                served.pump()  # read piece by piece, or together
        client.send_bytes(mapping(1), [fds[1]])
        assert client.receive().errno == client.receive().errno == 0
        assert [w[2] for w in served.device.windows] == inodes(fds)
        client.unmap_all()


@pytest.mark.parametrize("cut", [1, 20, 47])
def test_descriptors_of_a_message_that_is_cut(served: ServedDevice, client: VfioClient, cut: int) -> None:
    """A descriptor that came with a message's first bytes, behind whole messages, waits for the rest of it."""
    fds = memfds(1)
    client.send_bytes(READ * 3)
    client.send_bytes(mapping(0)[:cut], fds)
    assert served.pump() == 3
    client.send_bytes(mapping(0)[cut:] + mapping(1))
    assert served.pump() == 2
    assert [w[2] for w in served.device.windows] == [*inodes(fds), None]


def test_unwanted_descriptors_are_closed(served: ServedDevice, client: VfioClient, eventfd: int) -> None:
    """Descriptors that come with a message that wants none do no harm, and none stays open."""
    before = open_descriptors()
    for command in (Command.DEVICE_RESET, Command.REGION_READ, 77):
        for count in (1, MAX_DESCRIPTORS):
            client.send(command, ACCESS.pack(0, 0, 4), [eventfd] * count)
            client.receive()
    client.send(Command.DMA_MAP, DMA_MAP.pack(DMA_MAP.size, 3, 0, 0, PAGE), [eventfd, eventfd])
    assert client.receive().errno
    served.pump()
    assert open_descriptors() == before


def test_too_many_descriptors(served: ServedDevice, client: VfioClient, eventfd: int) -> None:
    """More than max_msg_fds ends the connection, and none of them stays open."""
    before = len(open_descriptors())
    client.send(Command.DEVICE_RESET, b"", [eventfd] * (MAX_DESCRIPTORS + 1))
    with pytest.raises(ConnectionError):
        client.receive()
    assert len(open_descriptors()) == before - 1  # without the server's end of the connection


def test_descriptors_piled_up_on_one_message(served: ServedDevice, client: VfioClient, eventfd: int) -> None:
    """A message that never ends and brings descriptors with each byte is cut off."""
    pieces = 0
    while served.server.connected:
        client.send_bytes(b"\x20", [eventfd] * MAX_DESCRIPTORS)
        served.pump()
        pieces += 1
    assert pieces == 3


def test_descriptors_of_a_message_that_never_ends(served: ServedDevice, client: VfioClient, eventfd: int) -> None:
    """A client that goes in the middle of a message leaves nothing open."""
    before = len(open_descriptors())
    client.send_bytes(mapping(0)[:20], [eventfd])
    served.pump()
    assert len(open_descriptors()) == before + 1
    client.close()
    assert len(open_descriptors()) == before - 2


def test_other_ancillary_data(served: ServedDevice, client: VfioClient) -> None:
    """Credentials, which nobody asked for, are not taken for descriptors."""
    credentials = array.array("i", [os.getpid(), os.getuid(), os.getgid()])
    client.connection.sendmsg([READ], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    assert client.receive().ident == 9
