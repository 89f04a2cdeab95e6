"""The first message of a connection: version and capabilities."""

from __future__ import annotations

import errno
import json

import pytest

from tests.kit.vfioclient import VfioClient, refused
from tests.kit.vfiodevice import ServedDevice
from vmm.vfiouser.messages import MAX_DATA, MAX_DESCRIPTORS, MAX_WINDOWS, PAGE, VERSION, Command


def test_version_states_the_limits(served: ServedDevice) -> None:
    """The reply is 0.0 with this server's limits, in the specification's names and JSON types."""
    major, minor, capabilities = served.connect().version()
    assert (major, minor) == (0, 0)
    assert capabilities == {
        "max_msg_fds": MAX_DESCRIPTORS,
        "max_data_xfer_size": MAX_DATA,
        "max_dma_maps": MAX_WINDOWS,
        "pgsizes": PAGE,
        "write_multiple": True,
    }


def test_version_answers_no_higher_minor_than_its_own(served: ServedDevice) -> None:
    """A client that proposes 0.7 gets 0.0; QEMU refuses a server that answers more than it proposed."""
    assert served.connect().version(0, 7)[:2] == (0, 0)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}\0", b'{"capabilities":{}}\0', b'{"capabilities":{"write_multiple":1,"twin_socket":{}}}\0'],
)
def test_version_data_is_optional(served: ServedDevice, data: bytes) -> None:
    """Without capabilities the limits are stated all the same; a feature that was not offered is not claimed."""
    capabilities = served.connect().version(data=data)[2]
    assert "max_msg_fds" in capabilities
    assert "write_multiple" not in capabilities


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"{}",
        b"[]\0",
        b"\xff\0",
        b"{\0",
        b'{"capabilities":[]}\0',
        b"9" * 5000 + b"\0",
        b"[" * 5000 + b"\0",
        b'{"capabilities":' * 400 + b"\0",
    ],
    ids=["empty", "no-end", "list", "not-utf8", "cut", "capabilities-list", "huge-number", "deep", "deep-object"],
)
def test_version_data_must_be_an_object(served: ServedDevice, data: bytes) -> None:
    """Malformed capabilities get EINVAL and the connection ends; the next client is served."""
    client = served.connect()
    refused(errno.EINVAL, client.version, data=data)
    with pytest.raises(ConnectionError):
        client.receive()
    client.close()
    assert served.greet().device_info()


def test_other_major_is_refused(served: ServedDevice) -> None:
    """A client of version 1 is told ENOTSUP, then the connection ends."""
    client = served.connect()
    refused(errno.ENOTSUP, client.version, 1)
    with pytest.raises(ConnectionError):
        client.receive()


def test_version_without_a_version(served: ServedDevice) -> None:
    """A VERSION of a bare header gets EINVAL."""
    client = served.connect()
    refused(errno.EINVAL, client.call, Command.VERSION)


@pytest.mark.parametrize("command", [command for command in Command if command != Command.VERSION])
def test_nothing_before_version(served: ServedDevice, command: Command) -> None:
    """A client that begins with anything else is dropped, and the device has heard nothing of it."""
    client = served.connect()
    client.send(command, bytes(64))
    with pytest.raises(ConnectionError):
        client.receive()
    assert not served.server.connected
    assert served.device.writes == 0


def test_version_only_once(client: VfioClient) -> None:
    """A second VERSION is refused, and the connection goes on."""
    refused(errno.EINVAL, client.version)
    assert client.device_info()


def test_version_reply_fits_what_qemu_sends(served: ServedDevice) -> None:
    """QEMU takes no reply longer than its request, whose shortest JSON is this."""
    text = json.dumps(
        {
            "capabilities": {
                "migration": {"max_bitmap_size": 268435456, "pgsize": 4096},
                "max_data_xfer_size": 1048576,
                "max_msg_fds": 16,
                "pgsizes": 4096,
                "max_dma_maps": 65535,
                "write_multiple": True,
            }
        }
    )
    client = served.connect()
    ident = client.send(Command.VERSION, VERSION.pack(0, 0) + text.encode() + b"\0")
    reply = client.receive()
    assert reply.ident == ident
    assert len(reply.payload) <= VERSION.size + len(text) + 1
