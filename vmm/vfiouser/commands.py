"""What each command does, but for region accesses, which are in ``vmm.vfiouser.session``.

A handler gets the payload, at least as long as the request's layout, and the descriptors that came with it, no more
than ``MESSAGES`` allows where it allows any; it removes those that it keeps. It answers with the reply's payload, or
raises OSError, whose errno the client is told.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from vmm.vfiouser.device import Device
from vmm.vfiouser.interrupts import IntxLine, Trigger
from vmm.vfiouser.messages import (
    DEVICE_INFO,
    DMA_MAP,
    DMA_UNMAP,
    IRQ_FLAGS,
    IRQ_INFO,
    IRQ_SET,
    IRQS,
    REGION_INFO,
    REGION_IO_FDS,
    REGIONS,
    Command,
    DeviceFlag,
    IrqAction,
    IrqData,
    IrqIndex,
    Layout,
    RegionFlag,
)
from vmm.vfiouser.windows import DmaWindows

__all__ = ["Commands", "Handler"]

Handler = Callable[[memoryview, list[int]], bytes]

_ARGSZ_BYTES: Final = 4
_DISABLE: Final = int(IrqData.NONE | IrqAction.TRIGGER)  # with a count of 0
_ALL_DATA: Final = int(IrqData.NONE | IrqData.BOOL | IrqData.EVENTFD)
_ALL_ACTIONS: Final = int(IrqAction.MASK | IrqAction.UNMASK | IrqAction.TRIGGER)


def _invalid(reason: str) -> OSError:
    return OSError(errno.EINVAL, reason)


def _answer(argsz: int, layout: Layout, *fields: int) -> bytes:
    """A reply that begins with argsz, the size needed; no longer than the client has room for.

    A client whose room is too small learns the needed size from the part that fits (specification, "Message sizes").
    """
    if argsz < _ARGSZ_BYTES:
        raise _invalid(f"argsz {argsz}")
    return layout.pack(layout.size, *fields)[:argsz]


class Commands:
    """The handlers of one connection, by command: ``table``."""

    def __init__(self, device: Device, interrupt: IntxLine) -> None:
        self._device = device
        self._regions = device.regions
        self._interrupt = interrupt
        self._errors = Trigger()  # of VFIO's ERR: the device never fails so that its guest must stop
        self._windows = DmaWindows(device)
        self.table: Final[dict[int, Handler]] = {
            Command.DMA_MAP: self._map,
            Command.DMA_UNMAP: self._unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.DEVICE_RESET: self._reset,
        }

    def _map(self, payload: memoryview, fds: list[int]) -> bytes:
        argsz, flags, offset, address, size = DMA_MAP.unpack_from(payload)
        if argsz < DMA_MAP.size:
            raise _invalid(f"argsz {argsz}")
        self._windows.map(flags, offset, address, size, fds[0] if fds else None)
        return b""

    def _unmap(self, payload: memoryview, _fds: list[int]) -> bytes:
        argsz, flags, address, size = DMA_UNMAP.unpack_from(payload)
        if argsz < DMA_UNMAP.size:
            raise _invalid(f"argsz {argsz}")
        self._windows.unmap(flags, address, size)
        return bytes(payload[: DMA_UNMAP.size])

    def _device_info(self, payload: memoryview, _fds: list[int]) -> bytes:
        argsz, *_ = DEVICE_INFO.unpack_from(payload)
        return _answer(argsz, DEVICE_INFO, DeviceFlag.RESET | DeviceFlag.PCI, REGIONS, IRQS)

    def _region_info(self, payload: memoryview, _fds: list[int]) -> bytes:
        argsz, _, index, *_ = REGION_INFO.unpack_from(payload)
        if index >= REGIONS:
            raise _invalid(f"region {index}")
        region = self._regions.get(index)
        size = flags = 0
        if region is not None and region.size:
            size = region.size
            flags = RegionFlag.READ * region.readable | RegionFlag.WRITE * region.writable
        return _answer(argsz, REGION_INFO, flags, index, 0, size, 0)

    def _region_io_fds(self, payload: memoryview, _fds: list[int]) -> bytes:
        argsz, flags, index, count = REGION_IO_FDS.unpack_from(payload)
        if flags or count or index >= REGIONS:
            raise _invalid(f"region {index}, flags {flags:#x}, count {count}")
        return _answer(argsz, REGION_IO_FDS, 0, index, 0)

    def _irq_info(self, payload: memoryview, _fds: list[int]) -> bytes:
        argsz, _, index, _ = IRQ_INFO.unpack_from(payload)
        if index >= IRQS:
            raise _invalid(f"interrupt index {index}")
        return _answer(argsz, IRQ_INFO, IRQ_FLAGS.get(index, 0), index, int(index in IRQ_FLAGS))

    def _reset(self, _payload: memoryview, _fds: list[int]) -> bytes:
        self._device.reset()
        return b""

    def _set_irqs(self, payload: memoryview, fds: list[int]) -> bytes:
        argsz, flags, index, start, count = IRQ_SET.unpack_from(payload)
        data, action = flags & _ALL_DATA, flags & _ALL_ACTIONS
        # One data flag, one action flag, nothing else.
        if flags != data | action or data.bit_count() != 1 or action.bit_count() != 1 or argsz < IRQ_SET.size:
            raise _invalid(f"flags {flags:#x}, argsz {argsz}")
        if index not in IRQ_FLAGS or start != 0 or count > 1:
            raise _invalid(f"interrupts {start} to {start + count - 1} of index {index}")
        if count == 0 and flags != _DISABLE:
            raise _invalid(f"flags {flags:#x} for no interrupt")
        if index == IrqIndex.ERR and action != IrqAction.TRIGGER:
            raise _invalid("ERR cannot be masked")
        target = self._errors if index == IrqIndex.ERR else self._interrupt
        if count == 0:
            target.reset()
        elif data == IrqData.EVENTFD:
            self._set_eventfd(target, action, fds)
        elif data == IrqData.NONE or _first(payload[IRQ_SET.size :]):
            self._act(target, action)
        return b""

    def _set_eventfd(self, target: IntxLine | Trigger, action: int, fds: list[int]) -> None:
        """By the eventfd that came, or from now on by none."""
        if action != IrqAction.TRIGGER:
            self._interrupt.set_waker(action, fds[0] if fds else None)
        elif fds:
            target.connect(fds[0])
        else:
            target.disconnect()
        if fds:
            fds.clear()  # the target's from here on
            if action == IrqAction.TRIGGER and target is self._interrupt:
                self._device.interrupt_unmasked()

    def _act(self, target: IntxLine | Trigger, action: int) -> None:
        if action == IrqAction.MASK:
            self._interrupt.mask()
        elif action == IrqAction.UNMASK:
            self._interrupt.unmask()
            self._device.interrupt_unmasked()
        else:
            target.test()

    def close(self) -> None:
        """Leaves nothing open. The handlers cannot be used after it."""
        self._errors.disconnect()
        self.table.clear()  # its bound methods are a cycle, and the collector may be off


def _first(booleans: memoryview) -> bool:
    if not booleans:
        raise _invalid("no boolean for the interrupt")
    return booleans[0] != 0
