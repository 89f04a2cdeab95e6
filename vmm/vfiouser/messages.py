"""vfio-user's messages as tables: commands, layouts, flags, indices and this server's limits.

Sources: "vfio-user Protocol Specification" (docs/interop/vfio-user.rst of QEMU), and for what it takes over from VFIO
the kernel's ``include/uapi/linux/vfio.h``. All integers are little-endian, the order of the hosts that run this. The
session checks sizes and counts descriptors by ``MESSAGES``; ``vmm.vfiouser.reference`` makes the documentation of it.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

from machine.dma import MOST_WINDOWS

__all__ = [
    "ACCESS",
    "DEVICE_INFO",
    "DMA_MAP",
    "DMA_UNMAP",
    "HEADER",
    "IRQS",
    "IRQ_FLAGS",
    "IRQ_INFO",
    "IRQ_SET",
    "MAX_DATA",
    "MAX_DESCRIPTORS",
    "MAX_MESSAGE",
    "MAX_WINDOWS",
    "MESSAGES",
    "MULTI",
    "MULTI_WRITE",
    "PAGE",
    "REGIONS",
    "REGION_INFO",
    "REGION_IO_FDS",
    "VERSION",
    "Command",
    "DeviceFlag",
    "DmaFlag",
    "HeaderFlag",
    "IrqAction",
    "IrqData",
    "IrqFlag",
    "IrqIndex",
    "Layout",
    "Message",
    "RegionFlag",
    "RegionIndex",
    "UnmapFlag",
]

PAGE: Final = 4096  # the only page size of DMA windows that is offered, in bytes
MAX_DATA: Final = 4096  # bytes of data in one region access: max_data_xfer_size
MAX_MESSAGE: Final = 8192  # bytes, header included; QEMU's longest, 200 writes in one, has 4824
MAX_DESCRIPTORS: Final = 8  # in one message: max_msg_fds
MAX_WINDOWS: Final = MOST_WINDOWS  # DMA windows at a time: max_dma_maps


class Command(enum.IntEnum):
    """Commands (specification, "Commands")."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    DIRTY_PAGES = 14
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


class HeaderFlag(enum.IntFlag):
    """The header's flags; TYPE is a field of four bits, in which 0 is a command."""

    TYPE = 0xF
    REPLY = 1
    NO_REPLY = 1 << 4
    ERROR = 1 << 5


class DeviceFlag(enum.IntFlag):
    """VFIO_DEVICE_FLAGS_*."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionFlag(enum.IntFlag):
    """VFIO_REGION_INFO_FLAG_*; nothing of this device can be mapped, and no region has capabilities."""

    READ = 1 << 0
    WRITE = 1 << 1


class DmaFlag(enum.IntFlag):
    """VFIO_DMA_MAP_FLAG_*: what the device may do with a window."""

    READ = 1 << 0
    WRITE = 1 << 1


class UnmapFlag(enum.IntFlag):
    """VFIO_DMA_UNMAP_FLAG_*."""

    GET_DIRTY_BITMAP = 1 << 0
    ALL = 1 << 1


class IrqFlag(enum.IntFlag):
    """VFIO_IRQ_INFO_*."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2


class IrqData(enum.IntFlag):
    """VFIO_IRQ_SET_DATA_*: what follows a DEVICE_SET_IRQS; exactly one is set."""

    NONE = 1 << 0
    BOOL = 1 << 1
    EVENTFD = 1 << 2


class IrqAction(enum.IntFlag):
    """VFIO_IRQ_SET_ACTION_*: what a DEVICE_SET_IRQS does; exactly one is set."""

    MASK = 1 << 3
    UNMASK = 1 << 4
    TRIGGER = 1 << 5


class RegionIndex(enum.IntEnum):
    """VFIO_PCI_*_REGION_INDEX."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


class IrqIndex(enum.IntEnum):
    """VFIO_PCI_*_IRQ_INDEX."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


REGIONS: Final = len(RegionIndex)
IRQS: Final = len(IrqIndex)
IRQ_FLAGS: Final[dict[int, int]] = {
    IrqIndex.INTX: IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED,
    IrqIndex.ERR: IrqFlag.EVENTFD,  # QEMU warns of a device without
}
"""The interrupt indices that have an interrupt, one each, and its flags."""


class Layout:
    """A fixed layout: ``fields`` gives each field's name and struct code, in order and without padding.

    ``size`` is in bytes; the three functions are those of struct.Struct.
    """

    __slots__ = ("fields", "pack", "pack_into", "size", "unpack_from")

    def __init__(self, **fields: str) -> None:
        codec = struct.Struct("<" + "".join(fields.values()))
        self.fields: Final = fields
        self.size: Final = codec.size
        self.pack: Final = codec.pack
        self.pack_into: Final = codec.pack_into
        self.unpack_from: Final = codec.unpack_from


HEADER: Final = Layout(id="H", command="H", size="I", flags="I", errno="I")
VERSION: Final = Layout(major="H", minor="H")
DMA_MAP: Final = Layout(argsz="I", flags="I", offset="Q", address="Q", size="Q")
DMA_UNMAP: Final = Layout(argsz="I", flags="I", address="Q", size="Q")
DEVICE_INFO: Final = Layout(argsz="I", flags="I", num_regions="I", num_irqs="I")
REGION_INFO: Final = Layout(argsz="I", flags="I", index="I", cap_offset="I", size="Q", offset="Q")
REGION_IO_FDS: Final = Layout(argsz="I", flags="I", index="I", count="I")
IRQ_INFO: Final = Layout(argsz="I", flags="I", index="I", count="I")
IRQ_SET: Final = Layout(argsz="I", flags="I", index="I", start="I", count="I")
ACCESS: Final = Layout(offset="Q", region="I", count="I")
MULTI: Final = Layout(wr_cnt="Q")
MULTI_WRITE: Final = Layout(offset="Q", region="I", count="I", data="8s")
_EMPTY: Final = Layout()


class Message(NamedTuple):
    """One command that is carried out: the fixed part of its request and reply, and what follows them."""

    request: Layout
    reply: Layout
    more: str = ""  # what follows the request's fixed part
    reply_more: str = ""  # what follows the reply's
    descriptors: int = 0  # how many it may bring; where it is 0, those that come are closed


MESSAGES: Final[dict[int, Message]] = {
    Command.VERSION: Message(VERSION, VERSION, "JSON, NUL", "JSON, NUL"),
    Command.DMA_MAP: Message(DMA_MAP, _EMPTY, descriptors=1),
    Command.DMA_UNMAP: Message(DMA_UNMAP, DMA_UNMAP),
    Command.DEVICE_GET_INFO: Message(DEVICE_INFO, DEVICE_INFO),
    Command.DEVICE_GET_REGION_INFO: Message(REGION_INFO, REGION_INFO),
    Command.DEVICE_GET_REGION_IO_FDS: Message(REGION_IO_FDS, REGION_IO_FDS),
    Command.DEVICE_GET_IRQ_INFO: Message(IRQ_INFO, IRQ_INFO),
    Command.DEVICE_SET_IRQS: Message(IRQ_SET, _EMPTY, "with BOOL: `count` bytes", descriptors=1),
    Command.REGION_READ: Message(ACCESS, ACCESS, "", "`count` bytes"),
    Command.REGION_WRITE: Message(ACCESS, ACCESS, "`count` bytes"),
    Command.DEVICE_RESET: Message(_EMPTY, _EMPTY),
    Command.REGION_WRITE_MULTI: Message(MULTI, MULTI, "`wr_cnt` writes of 24 bytes"),
}
"""What a client may ask for. Commands that are not here are answered with an error."""
