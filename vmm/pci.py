"""PCI configuration mechanism #1 (PCI Local Bus Specification 2.1, section 3.7.4.1) with one bus.

CONFIG_ADDRESS (0xCF8) latches 32-bit writes::

    31      enable: CONFIG_DATA is a window on configuration space
    23-16   bus
    15-11   device ("slot" here)
    10-8    function
    7-2     register, in 32-bit words

CONFIG_DATA (0xCFC-0xCFF) then reads and writes that word, in any width that fits. Whatever is not there (other
buses, empty slots, further functions) reads all ones, as a master abort does on a real bridge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from machine.errors import ConfigError
from machine.portmap import PortMap, all_ones
from machine.ports import PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA

__all__ = ["SLOTS", "HostBridge", "PciBus", "PciDevice"]

SLOTS: Final = 32

_ENABLE: Final = 0x8000_0000
_LATCHED: Final = 0x80FF_FFFC  # bits 30-24 and 1-0 are reserved and read 0
_BUS_AND_FUNCTION: Final = 0x00FF_0700
_REGISTER: Final = 0xFC
_ADDRESS_WIDTH: Final = 4


class PciDevice(Protocol):
    """A single-function device. Accesses lie within one 32-bit word of its 256 bytes; they may be unaligned."""

    def config_read(self, offset: int, width: int) -> int:
        """The value of ``width`` (1, 2, 4) bytes at ``offset`` (0-255)."""

    def config_write(self, offset: int, width: int, value: int) -> None:
        """Stores ``value``, which fits ``width`` bytes, as far as the registers there are writable."""


class HostBridge:
    """Just enough of an Intel 440FX (8086:1237) that software which looks for a PCI bus believes in one.

    Every register is read-only: there is no memory controller behind it.
    """

    __slots__ = ()

    _HEADER: Final = (
        (0x00, 0x1237_8086),  # device, vendor
        (0x04, 0x0280_0006),  # status: medium DEVSEL, fast back-to-back; command: bus master, memory space
        (0x08, 0x0600_0002),  # class: host bridge; revision
    )

    def config_read(self, offset: int, width: int) -> int:
        """The header's first words; all else is 0."""
        for register, word in self._HEADER:
            if register == offset & _REGISTER:
                return word >> 8 * (offset & 3) & all_ones(width)
        return 0

    def config_write(self, _offset: int, _width: int, _value: int) -> None:
        """Ignored."""


class _ConfigAddress:
    """The port handler of 0xCF8-0xCFB. Only 32-bit accesses are meant for the register.

    Narrower ones are ordinary I/O, says the specification, and here nothing decodes them. Linux relies on it:
    ``pci_check_direct`` writes a byte to 0xCFB just before it tries the latch.
    """

    __slots__ = ("latch",)

    def __init__(self) -> None:
        self.latch = 0

    def read(self, _offset: int, width: int) -> int:
        return self.latch if width == _ADDRESS_WIDTH else all_ones(width)

    def write(self, _offset: int, width: int, value: int) -> int:
        if width == _ADDRESS_WIDTH:
            self.latch = value & _LATCHED
        return 0


class PciBus:
    """Bus 0 behind its host bridge (slot 0), and the port handler of CONFIG_DATA.

    ``on_config_write(slot)`` is called after each write that reached a device: its base addresses, or
    whether it decodes them, may have changed.
    """

    __slots__ = ("_address", "_devices", "_on_config_write")

    def __init__(self, on_config_write: Callable[[int], None] | None = None) -> None:
        self._address = _ConfigAddress()
        self._devices: dict[int, PciDevice] = {0: HostBridge()}
        self._on_config_write = on_config_write

    def claim_on(self, ports: PortMap) -> None:
        """Claims CONFIG_ADDRESS and CONFIG_DATA; raises PortOverlapError if a port is taken."""
        ports.claim(PCI_CONFIG_ADDRESS, 4, "PCI configuration address", self._address)
        ports.claim(PCI_CONFIG_DATA, 4, "PCI configuration data", self)

    def attach(self, slot: int, device: PciDevice) -> None:
        """Puts ``device`` into ``slot`` (1-31); raises ConfigError if there is no such slot or it is taken."""
        if not 0 <= slot < SLOTS or slot in self._devices:
            raise ConfigError(f"PCI slot {slot} is not free: choose one of 1-{SLOTS - 1} that holds no device")
        self._devices[slot] = device

    def read(self, offset: int, width: int) -> int:
        """IN from CONFIG_DATA."""
        device = self._selected()
        if device is None:
            return all_ones(width)
        return device.config_read(self._address.latch & _REGISTER | offset, width) & all_ones(width)

    def write(self, offset: int, width: int, value: int) -> int:
        """OUT to CONFIG_DATA. Always finished: answers 0."""
        device = self._selected()
        if device is not None:
            latch = self._address.latch
            device.config_write(latch & _REGISTER | offset, width, value & all_ones(width))
            if self._on_config_write is not None:
                self._on_config_write(_slot(latch))
        return 0

    def _selected(self) -> PciDevice | None:
        """The device that CONFIG_ADDRESS names; None if there is none or the window is closed."""
        latch = self._address.latch
        if not latch & _ENABLE or latch & _BUS_AND_FUNCTION:
            return None
        return self._devices.get(_slot(latch))


def _slot(latch: int) -> int:
    return latch >> 11 & SLOTS - 1
