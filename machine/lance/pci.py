"""PCI configuration space of the Am79C970A: header type 0, an I/O BAR and a memory BAR of 32 bytes each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from machine.lance import state

__all__ = [
    "BUS_MASTER",
    "COMMAND_WORD",
    "CONFIG_FIELDS",
    "DEVICE_ID",
    "INTERRUPT_LINE",
    "VENDOR_ID",
    "ConfigField",
    "PciConfig",
]

VENDOR_ID: Final = 0x1022  # AMD
DEVICE_ID: Final = 0x2000  # PCnet-PCI family
COMMAND_WORD: Final = state.PCI + 1  # state word with the command register in its lower half
BUS_MASTER: Final = 0x04  # command register: the chip may do DMA
INTERRUPT_LINE: Final = 0x3C  # offset of the register in which firmware leaves the IRQ's number

_SIZE: Final = 4 * state.PCI_WORDS
_BAR0: Final = state.PCI + 4
_LATENCY: Final = 0x3E
_IO_ENABLE: Final = 0x01
_IO_LIMIT: Final = 0x1_0000 - 32  # highest base whose 32 ports exist on a PC


@dataclass(frozen=True, slots=True)
class ConfigField:
    """A register of the header: ``width`` bytes at ``offset``; ``writable`` takes values, ``w1c`` clears on 1."""

    name: str
    offset: int
    width: int
    reset: int
    meaning: str
    writable: int = 0
    w1c: int = 0


CONFIG_FIELDS: Final = (
    ConfigField("VENDOR_ID", 0x00, 2, VENDOR_ID, "AMD"),
    ConfigField("DEVICE_ID", 0x02, 2, DEVICE_ID, "PCnet-PCI family"),
    ConfigField("COMMAND", 0x04, 2, 0x0000, "I/O, memory, bus master, parity, SERR# enables", writable=0x0147),
    ConfigField("STATUS", 0x06, 2, 0x0280, "fast back-to-back, medium DEVSEL#; errors clear on 1", w1c=0xF900),
    ConfigField("REVISION", 0x08, 1, 0x10, "Am79C970A"),
    ConfigField("CLASS", 0x09, 3, 0x020000, "network, Ethernet"),
    ConfigField("LATENCY_TIMER", 0x0D, 1, 0x00, "bus clocks", writable=0xFF),
    ConfigField("HEADER_TYPE", 0x0E, 1, 0x00, "one function"),
    ConfigField("BAR0", 0x10, 4, 0x0000_0001, "32 I/O ports", writable=0xFFFF_FFE0),
    ConfigField("BAR1", 0x14, 4, 0x0000_0000, "the same registers in memory", writable=0xFFFF_FFE0),
    ConfigField("INTERRUPT_LINE", INTERRUPT_LINE, 1, 0x00, "kept for the firmware and the driver", writable=0xFF),
    ConfigField("INTERRUPT_PIN", 0x3D, 1, 0x01, "INTA#"),
    ConfigField("MIN_GNT", 0x3E, 1, 0x06, "BCR22, bits 7-0"),
    ConfigField("MAX_LAT", 0x3F, 1, 0xFF, "BCR22, bits 15-8"),
)


def _image(attribute: str) -> tuple[int, ...]:
    """One property of every field, laid out as the 64 words of the configuration space."""
    image = bytearray(_SIZE)
    for field in CONFIG_FIELDS:
        value: int = getattr(field, attribute)
        image[field.offset : field.offset + field.width] = value.to_bytes(field.width, "little")
    return tuple(int.from_bytes(image[at : at + 4], "little") for at in range(0, _SIZE, 4))


_RESET: Final = _image("reset")
_WRITABLE: Final = _image("writable")
_W1C: Final = _image("w1c")


class PciConfig:
    """The configuration space over the state words. Offsets and widths may be anything at all."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        """``words``: the Lance's state (``machine.lance.state``), format "I"."""
        self._words = words

    def power_on(self) -> None:
        """Every register as RST# leaves it: no decoding, BARs unassigned."""
        for index, value in enumerate(_RESET):
            self._words[state.PCI + index] = value

    def read(self, offset: int, width: int) -> int:
        """``width`` bytes (1 to 256) from ``offset``, little-endian; bytes outside the space are 0xFF."""
        value = 0
        for i in range(min(width, _SIZE)):
            value |= self._byte(offset + i) << 8 * i
        return value

    def write(self, offset: int, width: int, value: int) -> None:
        """Writes byte by byte what is writable; bytes outside the space are ignored."""
        for i in range(min(width, _SIZE)):
            self._store(offset + i, value >> 8 * i & 0xFF)

    def set_latency(self, bcr22: int) -> None:
        """MIN_GNT and MAX_LAT follow BCR22, which is their other name."""
        index = state.PCI + (_LATENCY >> 2)
        self._words[index] = self._words[index] & 0xFFFF | (bcr22 & 0xFFFF) << 16

    @property
    def io_base(self) -> int | None:
        """First of the 32 ports, or None while the chip decodes none that can exist."""
        base = self._words[_BAR0] & 0xFFFF_FFE0
        enabled = self._words[COMMAND_WORD] & _IO_ENABLE
        return base if enabled and 0 < base <= _IO_LIMIT else None

    @property
    def bus_master(self) -> bool:
        """Whether the chip may do DMA."""
        return bool(self._words[COMMAND_WORD] & BUS_MASTER)

    def _byte(self, offset: int) -> int:
        if not 0 <= offset < _SIZE:
            return 0xFF
        return self._words[state.PCI + (offset >> 2)] >> 8 * (offset & 3) & 0xFF

    def _store(self, offset: int, byte: int) -> None:
        if not 0 <= offset < _SIZE:
            return
        index, written = offset >> 2, byte << 8 * (offset & 3)
        lane = 0xFF << 8 * (offset & 3)
        takes = _WRITABLE[index] & lane
        old = self._words[state.PCI + index]
        self._words[state.PCI + index] = (old & ~takes | written & takes) & ~(written & _W1C[index])
