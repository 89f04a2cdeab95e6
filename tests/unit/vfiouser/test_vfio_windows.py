"""DMA windows as a client maps and unmaps them."""

from __future__ import annotations

import errno
import os

import pytest

from tests.kit.vfioclient import VfioClient, refused
from tests.kit.vfiodevice import MemoryDevice, ServedDevice
from vmm.vfiouser.messages import DMA_MAP, DMA_UNMAP, MAX_WINDOWS, PAGE, Command, DmaFlag, UnmapFlag
from vmm.vfiouser.windows import DmaWindows


def test_windows_reach_the_device(served: ServedDevice, client: VfioClient) -> None:
    """A window's address, size, file, offset and rights are the device's to use; no file is None."""
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 4 * PAGE)
    inode = os.fstat(fd).st_ino
    client.map(0x10000, 2 * PAGE, fd, PAGE)
    client.map(0x20000, PAGE, fd, 0, DmaFlag.READ)
    client.map((1 << 64) - PAGE, PAGE, None)
    os.close(fd)
    assert served.device.windows == [
        (0x10000, 2 * PAGE, inode, PAGE, True),
        (0x20000, PAGE, inode, 0, False),
        ((1 << 64) - PAGE, PAGE, None, 0, True),
    ]


def test_windows_may_overlap(served: ServedDevice, client: VfioClient) -> None:
    """A window over another, or the same once more, is the device's to lay on top."""
    client.map(0, 4 * PAGE, None)
    client.map(PAGE, PAGE, None)
    client.map(PAGE, PAGE, None)
    assert len(served.device.windows) == 3
    client.unmap(PAGE, PAGE)
    assert [w[0] for w in served.device.windows] == [0]


def test_unmap_takes_what_lies_within(served: ServedDevice, client: VfioClient) -> None:
    """Windows wholly in the range go; one that reaches out of it stays; none at all is ENOENT."""
    for address in (0, 2 * PAGE, 4 * PAGE):
        client.map(address, PAGE, None)
    refused(errno.ENOENT, client.unmap, PAGE, PAGE)
    client.unmap(0, 3 * PAGE)
    assert [w[0] for w in served.device.windows] == [4 * PAGE]
    refused(errno.ENOENT, client.unmap, 0, 3 * PAGE)
    client.map(0, 4 * PAGE, None)
    refused(errno.ENOENT, client.unmap, 0, PAGE)


def test_unmap_all(served: ServedDevice, client: VfioClient) -> None:
    """The flag ALL takes every window, and no range with it."""
    client.map(0, PAGE, None)
    client.map(8 * PAGE, PAGE, None)
    refused(errno.EINVAL, client.unmap, 0, PAGE, UnmapFlag.ALL)
    client.unmap_all()
    client.unmap_all()
    assert served.device.windows == []


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0, 0),
        (0, 1),
        (1, PAGE),
        (0, PAGE - 1),
        (PAGE // 2, PAGE),
        ((1 << 64) - PAGE, 2 * PAGE),
        (0, (1 << 64) - 1),
        (PAGE, (1 << 64) - PAGE + 1),
    ],
)
def test_ranges_that_cannot_be(served: ServedDevice, client: VfioClient, address: int, size: int) -> None:
    """Empty, misaligned or wrapping ranges are EINVAL, mapped or unmapped."""
    refused(errno.EINVAL, client.map, address, size, None)
    refused(errno.EINVAL, client.unmap, address, size)
    assert served.device.windows == []


def test_windows_of_other_flags(served: ServedDevice, client: VfioClient) -> None:
    """Windows without rights or with unknown flags are EINVAL; ones that can only be written are not offered."""
    refused(errno.EINVAL, client.map, 0, PAGE, None, 0, 0)
    refused(errno.EINVAL, client.map, 0, PAGE, None, 0, 4 | DmaFlag.READ)
    refused(errno.ENOTSUP, client.map, 0, PAGE, None, 0, DmaFlag.WRITE)
    refused(errno.ENOTSUP, client.unmap, 0, PAGE, UnmapFlag.GET_DIRTY_BITMAP)
    refused(errno.ENOTSUP, client.unmap, 0, PAGE, 1 << 31)
    assert served.device.windows == []


@pytest.mark.parametrize("offset", [1, PAGE - 1, (1 << 63) - PAGE + 1, 1 << 63, (1 << 64) - PAGE])
def test_file_offsets_that_cannot_be(client: VfioClient, eventfd: int, offset: int) -> None:
    """A misaligned offset, or one beyond what a file can have, is EINVAL."""
    refused(errno.EINVAL, client.map, 0, PAGE, eventfd, offset)


def test_windows_have_a_number() -> None:
    """One more than max_dma_maps is ENOSPC; after an unmapping there is room again."""
    windows = DmaWindows(MemoryDevice())
    for number in range(MAX_WINDOWS):
        windows.map(DmaFlag.READ, 0, number * PAGE, PAGE, None)
    with pytest.raises(OSError, match="more than 65535"):
        windows.map(DmaFlag.READ, 0, 0, PAGE, None)
    windows.unmap(0, 0, PAGE)
    windows.map(DmaFlag.READ, 0, 0, PAGE, None)
    assert len(windows) == MAX_WINDOWS


def test_refused_window_is_no_window(served: ServedDevice, client: VfioClient) -> None:
    """A mapping that the device refuses counts for nothing, and an unmapping that it refuses undoes nothing."""
    served.device.failure = errno.EINVAL
    refused(errno.EINVAL, client.map, 0, PAGE, None)
    refused(errno.ENOENT, client.unmap, 0, PAGE)
    client.map(0, PAGE, None)
    served.device.failure = errno.EIO
    refused(errno.EIO, client.unmap, 0, PAGE)
    client.unmap(0, PAGE)


def test_dma_argsz(client: VfioClient) -> None:
    """Argsz of DMA_MAP and DMA_UNMAP is at least their payload's size."""
    refused(errno.EINVAL, client.call, Command.DMA_MAP, DMA_MAP.pack(DMA_MAP.size - 1, 3, 0, 0, PAGE))
    refused(errno.EINVAL, client.call, Command.DMA_UNMAP, DMA_UNMAP.pack(DMA_UNMAP.size - 1, 0, 0, PAGE))
