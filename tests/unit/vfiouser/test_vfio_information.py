"""What a client learns of the device, and commands that are refused whatever they say."""

from __future__ import annotations

import errno

import pytest

from tests.kit.vfioclient import VfioClient, refused
from vmm.vfiouser.messages import (
    DEVICE_INFO,
    HEADER,
    IRQ_INFO,
    MESSAGES,
    REGION_INFO,
    REGION_IO_FDS,
    Command,
    IrqAction,
    IrqData,
)

NOT_OFFERED = set(Command) - set(MESSAGES)


def test_device_info(client: VfioClient) -> None:
    """A resettable PCI device with VFIO's nine regions and five interrupt indices."""
    assert client.device_info() == (DEVICE_INFO.size, 3, 9, 5)


@pytest.mark.parametrize(
    ("index", "flags", "size"),
    [(0, 3, 32), (1, 0, 0), (2, 1, 16), (3, 2, 16), (5, 3, 1 << 16), (6, 0, 0), (7, 3, 256), (8, 0, 0)],
)
def test_region_info(client: VfioClient, index: int, flags: int, size: int) -> None:
    """Regions report readable (1), writable (2) and their size; absent ones have size 0."""
    assert client.region_info(index) == (REGION_INFO.size, flags, index, 0, size, 0)


def test_region_io_fds_are_none(client: VfioClient) -> None:
    """No part of a region has an ioeventfd."""
    assert client.region_io_fds(0) == (REGION_IO_FDS.size, 0, 0, 0)


@pytest.mark.parametrize(("index", "flags", "count"), [(0, 7, 1), (1, 0, 0), (2, 0, 0), (3, 1, 1), (4, 0, 0)])
def test_irq_info(client: VfioClient, index: int, flags: int, count: int) -> None:
    """INTx is one interrupt, maskable and masked by each trigger; ERR is one, by eventfd alone; there is no other."""
    assert client.irq_info(index) == (IRQ_INFO.size, flags, index, count)


def test_indices_beyond_the_last(client: VfioClient) -> None:
    """Regions 9 and interrupt index 5 do not exist."""
    for index in (9, 1 << 16, (1 << 32) - 1):
        refused(errno.EINVAL, client.region_info, index)
        refused(errno.EINVAL, client.region_io_fds, index)
    for index in (5, (1 << 32) - 1):
        refused(errno.EINVAL, client.irq_info, index)
        refused(errno.EINVAL, client.set_irqs, IrqData.NONE | IrqAction.TRIGGER, index=index)


@pytest.mark.parametrize("room", [4, 8, 15])
def test_too_small_argsz_learns_the_size(client: VfioClient, room: int) -> None:
    """A client without room gets what fits, and in argsz what it needs."""
    reply = client.call(Command.DEVICE_GET_INFO, DEVICE_INFO.pack(room, 0, 0, 0))
    assert len(reply) == room
    assert client.device_info(room)[0] == DEVICE_INFO.size
    assert client.region_info(0, room)[0] == REGION_INFO.size
    assert client.irq_info(0, room)[0] == IRQ_INFO.size
    assert client.region_io_fds(0, room)[0] == REGION_IO_FDS.size


def test_no_room_for_argsz_itself(client: VfioClient) -> None:
    """Below four bytes there is no reply to make."""
    for ask in (
        client.device_info,
        lambda argsz: client.region_info(0, argsz),
        lambda argsz: client.irq_info(0, argsz),
    ):
        refused(errno.EINVAL, ask, 3)


def test_more_room_changes_nothing(client: VfioClient) -> None:
    """A larger argsz gets the same reply."""
    assert client.region_info(0, 4096) == client.region_info(0)


@pytest.mark.parametrize("command", [command for command in MESSAGES if command != Command.VERSION])
def test_short_payloads(client: VfioClient, command: Command) -> None:
    """One byte less than the request's fixed part is EINVAL for every command that has one."""
    size = MESSAGES[command].request.size
    if size == 0:
        assert client.call(command) == b""
        return
    refused(errno.EINVAL, client.call, command, bytes(size - 1))
    refused(errno.EINVAL, client.call, command)


@pytest.mark.parametrize("command", sorted(NOT_OFFERED))
def test_commands_not_offered(client: VfioClient, command: Command) -> None:
    """Migration, and the server's own commands, are ENOTSUP."""
    refused(errno.ENOTSUP, client.call, command, bytes(64))


@pytest.mark.parametrize("command", [0, 19, 255, 0xFFFF])
def test_unknown_commands(client: VfioClient, command: int) -> None:
    """A command that the protocol does not have is EINVAL, and the connection goes on."""
    refused(errno.EINVAL, client.call, command)
    assert client.device_info()


def test_header_table_is_the_protocols() -> None:
    """The header is 16 bytes, and the fixed payloads have the specification's sizes."""
    assert HEADER.size == 16
    sizes = {command.name: MESSAGES[command].request.size for command in MESSAGES}
    assert sizes == {
        "VERSION": 4,
        "DMA_MAP": 32,
        "DMA_UNMAP": 24,
        "DEVICE_GET_INFO": 16,
        "DEVICE_GET_REGION_INFO": 32,
        "DEVICE_GET_REGION_IO_FDS": 16,
        "DEVICE_GET_IRQ_INFO": 16,
        "DEVICE_SET_IRQS": 20,
        "REGION_READ": 16,
        "REGION_WRITE": 16,
        "DEVICE_RESET": 0,
        "REGION_WRITE_MULTI": 8,
    }
