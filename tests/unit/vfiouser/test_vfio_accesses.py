"""Region accesses: the traps of a guest behind a client."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.kit.vfioclient import VfioClient, encode, refused
from tests.kit.vfiodevice import ServedDevice
from vmm.vfiouser.messages import ACCESS, MAX_DATA, MULTI, MULTI_WRITE, PAGE, Command, HeaderFlag


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8, 32])
def test_access_round_trip(client: VfioClient, width: int) -> None:
    """What is written is read, in any width."""
    data = bytes(range(1, width + 1))
    client.write(0, 0, data)
    assert client.read(0, 0, width) == data


def test_largest_access(client: VfioClient) -> None:
    """max_data_xfer_size bytes go both ways."""
    data = os.urandom(MAX_DATA)
    client.write(5, 100, data)
    assert client.read(5, 100, MAX_DATA) == data


@pytest.mark.parametrize(
    ("region", "offset", "count"),
    [
        (0, 32, 1),
        (0, 31, 2),
        (0, 0, 33),
        (0, 1 << 63, 4),
        (0, (1 << 64) - 1, 1),
        (0, (1 << 64) - 4, 4),
        (1, 0, 1),
        (3, 0, 1),
        (5, 0, MAX_DATA + 1),
        (9, 0, 1),
        ((1 << 32) - 1, 0, 1),
        (0, 0, (1 << 32) - 1),
    ],
)
def test_reads_outside(client: VfioClient, region: int, offset: int, count: int) -> None:
    """Reads outside a region, of one that cannot be read, or of too much, are EINVAL; the device hears nothing."""
    refused(errno.EINVAL, client.read, region, offset, count)


@pytest.mark.parametrize(
    ("region", "offset", "count"),
    [(0, 32, 1), (0, 31, 2), (0, (1 << 64) - 1, 1), (1, 0, 1), (2, 0, 1), (9, 0, 1), ((1 << 32) - 1, 0, 1)],
)
def test_writes_outside(served: ServedDevice, client: VfioClient, region: int, offset: int, count: int) -> None:
    """Writes outside a region, or to one that cannot be written, are EINVAL, alone and among several."""
    refused(errno.EINVAL, client.write, region, offset, bytes(count))
    refused(errno.EINVAL, client.write_multi, (region, offset, bytes(count)))
    assert served.device.writes == 0


@pytest.mark.parametrize("count", [0, 1, 3, 5, (1 << 32) - 1])
def test_write_count_must_match_the_message(served: ServedDevice, client: VfioClient, count: int) -> None:
    """A count that disagrees with the message's size is EINVAL: never bytes of another message."""
    refused(errno.EINVAL, client.call, Command.REGION_WRITE, ACCESS.pack(0, 0, count) + b"four")
    assert served.device.writes == 0


def test_accesses_of_nothing(served: ServedDevice, client: VfioClient) -> None:
    """A count of 0 succeeds, within a region, without the device."""
    assert client.read(0, 32, 0) == b""
    client.write(0, 32, b"")
    assert client.write_multi((0, 0, b"")) == 1
    assert served.device.writes == 0
    refused(errno.EINVAL, client.read, 0, 33, 0)


def test_write_multi(client: VfioClient) -> None:
    """Several writes in one message happen in their order."""
    assert client.write_multi((0, 0, b"abcd"), (0, 2, b"X"), (7, 8, b"12345678")) == 3
    assert client.read(0, 0, 4) == b"abXd"
    assert client.read(7, 8, 8) == b"12345678"
    assert client.write_multi() == 0


def test_write_multi_of_qemus_length(client: VfioClient) -> None:
    """The 200 writes that QEMU gathers at most fit into one message."""
    assert client.write_multi(*((5, 8 * i, i.to_bytes(8, "little")) for i in range(200))) == 200
    assert client.read(5, 8 * 199, 8) == (199).to_bytes(8, "little")


@pytest.mark.parametrize("writes", [0, 2, (1 << 64) - 1, 1 << 61])
def test_write_multi_count_must_match(served: ServedDevice, client: VfioClient, writes: int) -> None:
    """A number of writes that disagrees with the message's size is EINVAL, and none of them is done."""
    payload = MULTI.pack(writes) + MULTI_WRITE.pack(0, 0, 4, b"data")
    refused(errno.EINVAL, client.call, Command.REGION_WRITE_MULTI, payload)
    refused(errno.EINVAL, client.call, Command.REGION_WRITE_MULTI, MULTI.pack(1) + MULTI_WRITE.pack(0, 0, 9, b""))
    assert served.device.writes == 0


def test_write_multi_stops_at_the_first_refusal(client: VfioClient) -> None:
    """Writes before the one that is refused stay done, those behind it are not."""
    refused(errno.EINVAL, client.write_multi, (0, 0, b"a"), (0, 99, b"b"), (0, 1, b"c"))
    assert client.read(0, 0, 2) == b"a\0"


def test_posted_writes(served: ServedDevice, client: VfioClient) -> None:
    """NO_REPLY gets no reply, in success and in failure; what comes behind sees what was written."""
    client.post(0, 0, b"wxyz")
    client.post(0, 99, b"outside")
    client.send(Command.REGION_READ, ACCESS.pack(0, 0, 4), flags=HeaderFlag.NO_REPLY)
    client.send(Command.REGION_WRITE_MULTI, MULTI.pack(0), flags=HeaderFlag.NO_REPLY)
    client.send(0xBAD, flags=HeaderFlag.NO_REPLY)
    assert client.read(0, 0, 4) == b"wxyz"


def test_early_finish_replies_once(served: ServedDevice, client: VfioClient) -> None:
    """A device that finishes a write early sends the one reply; a failure after it cannot be told."""
    served.device.early = True
    client.write(0, 0, b"a")
    served.device.failure = errno.EIO
    client.write(0, 0, b"b")
    assert client.read(0, 0, 1) == b"a"


def test_errors_of_the_device_are_told(served: ServedDevice, client: VfioClient) -> None:
    """Whatever the device raises as OSError is the reply's errno, for every command that reaches it."""
    calls: list[Callable[[], object]] = [
        lambda: client.read(0, 0, 1),
        lambda: client.write(0, 0, b"x"),
        lambda: client.write_multi((0, 0, b"x")),
        lambda: client.map(0, PAGE, None),
        client.unmap_all,
        client.reset,
    ]
    for number, call in enumerate(calls, errno.ENOMEM):
        served.device.failure = number
        refused(number, call)
        served.device.failure = 0


def test_reset(served: ServedDevice, client: VfioClient) -> None:
    """DEVICE_RESET resets, and DMA windows stay."""
    client.write(0, 0, b"x")
    client.map(0, PAGE, None)
    client.reset()
    assert client.read(0, 0, 1) == b"\0"
    assert served.device.resets == 1
    assert len(served.device.windows) == 1


def test_ids_are_echoed(client: VfioClient) -> None:
    """Ids belong to the client: any value, any number of times, in success and in failure."""
    for ident in (0, 7, 7, 0xFFFF):
        for command, payload in ((Command.REGION_READ, ACCESS.pack(0, 0, 4)), (Command.DEVICE_RESET, b""), (0, b"")):
            client.send_bytes(encode(command, payload, ident=ident))
            reply = client.receive()
            assert (reply.ident, reply.command) == (ident, command)
