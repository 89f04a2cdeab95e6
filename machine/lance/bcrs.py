"""The bus configuration registers of the Am79C970A: one table.

Indices that are missing here are reserved: they read 0 and ignore writes, as do BCR32 and up, where later
chips of the family have their MII. No EEPROM is fitted; what it would load comes from ``power_on``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from machine.lance import bits
from machine.lance.csrs import CSRS
from machine.lance.fields import BCR_SPACE, Access, Field, Gate, Register, by_index, whole

__all__ = ["BCRS", "LED_BCRS"]

INERT: Final = True
RO, RW, SPND = Access.RO, Access.RW, Access.SPND

LED_BCRS: Final = (4, 5, 6, 7)

_MISC: Final = (
    Field("TMAULOOP", 0x4000, RW, "external loopback passes the transceiver", INERT),
    Field("LEDPE", bits.BCR2_LEDPE, RW, "BCR4 to BCR7 take writes"),
    Field("APROMWE", bits.BCR2_APROMWE, RW, "the APROM takes writes"),
    Field("INTLEVEL", 0x0080, RW, "INTA# is edge-sensitive, active high", INERT),
    Field("DXCVRCTL", 0x0020, RW, "drives the DXCVR pin", INERT),
    Field("DXCVRPOL", 0x0010, RW, "polarity of the DXCVR pin", INERT),
    Field("EADISEL", 0x0008, RW, "external address detection interface", INERT),
    Field("AWAKE", 0x0004, RW, "the receiver stays awake in snooze mode", INERT),
    Field("ASEL", 0x0002, RW, "the port is chosen by the link, not by PORTSEL", INERT),
    Field("XMAUSEL", 0x0001, RW, "reserved for an external MAU", INERT),
)

_LED: Final = (
    Field("LEDOUT", bits.LED_LEDOUT, RO, "one of the signals chosen below is on"),
    Field("LEDPOL", 0x4000, RW, "the pin is active high", INERT),
    Field("LEDDIS", 0x2000, RW, "the pin is off", INERT),
    Field("MPSE", 0x0200, RW, "magic packet mode", INERT),
    Field("FDLSE", 0x0100, RW, "link in full duplex", INERT),
    Field("PSE", 0x0080, RW, "pulses are stretched", INERT),
    Field("LNKSTE", bits.LED_LNKSTE, RW, "link"),
    Field("RCVME", 0x0020, RW, "a frame for this station is received", INERT),
    Field("XMTE", 0x0010, RW, "transmission", INERT),
    Field("RXPOLE", 0x0008, RW, "receive polarity is right", INERT),
    Field("RCVE", 0x0004, RW, "reception", INERT),
    Field("JABE", 0x0002, RW, "jabber", INERT),
    Field("COLE", 0x0001, RW, "collision", INERT),
)

_DUPLEX: Final = (
    Field("FDRPAD", bits.BCR9_FDRPAD, RW, "runts are not received in full duplex either", INERT),
    Field("AUIFD", bits.BCR9_AUIFD, RW, "FDEN applies to the AUI port too", INERT),
    Field("FDEN", bits.BCR9_FDEN, RW, "full duplex", INERT),
)

_BUS: Final = (
    Field("ROMTMG", 0xF000, RW, "expansion ROM access time in clocks", INERT),
    Field("MEMCMD", 0x0200, RW, "memory read multiple instead of memory read line", INERT),
    Field("EXTREQ", 0x0100, RW, "REQ# is held longer", INERT),
    Field("DWIO", bits.BCR18_DWIO, RO, "ports are 32 bits wide; set by a 32-bit write to RDP, cleared by H_RESET"),
    Field("BREADE", 0x0040, RW, "burst reads", INERT),
    Field("BWRITE", 0x0020, RW, "burst writes", INERT),
    Field("LINBC", 0x0007, RW, "reserved, kept", INERT),
)

_EEPROM: Final = (
    Field("PVALID", 0x8000, RO, "the EEPROM's checksum was right"),
    Field("PREAD", 0x4000, RO, "reads the EEPROM again; done at once, as there is none"),
    Field("EEDET", 0x2000, RO, "an EEPROM is there"),
    Field("EEN", 0x0010, RW, "the bits below drive the EEPROM's pins", INERT),
    Field("ECS", 0x0004, RW, "chip select", INERT),
    Field("ESK", 0x0002, RW, "clock", INERT),
    Field("EDI/EDO", 0x0001, RW, "data", INERT),
)

_LATENCY: Final = (
    Field("MAX_LAT", 0xFF00, SPND, "how often the bus is needed, in 0.25 us; seen at PCI offset 0x3F"),
    Field("MIN_GNT", 0x00FF, SPND, "length of a burst, in 0.25 us; seen at PCI offset 0x3E"),
)

_LEDPE: Final = Gate(BCR_SPACE, 2, bits.BCR2_LEDPE, "BCR2.LEDPE")


def _bcr(index: int, title: str, fields: tuple[Field, ...], reset: int = 0, *, cached: int = 0,
         behaviour: str = "plain") -> Register:  # fmt: skip
    return Register(BCR_SPACE, index, title, fields, reset=reset, cached=cached, behaviour=behaviour)


def _led(index: int, reset: int) -> Register:
    title = "Link status LED" if index == LED_BCRS[0] else f"LED {index - LED_BCRS[0]}"
    return Register(BCR_SPACE, index, title, _LED, reset=reset, gate=_LEDPE, behaviour="led")


def _table() -> Iterator[Register]:
    yield _bcr(0, "Master mode read active", whole("MSRDA", RO, "reserved on PCI"), 0x0005)
    yield _bcr(1, "Master mode write active", whole("MSWRA", RO, "reserved on PCI"), 0x0005)
    yield _bcr(2, "Miscellaneous configuration", _MISC, 0x0002)
    for index, reset in zip(LED_BCRS, (0x00C0, 0x0084, 0x0088, 0x0090), strict=True):
        yield _led(index, reset)
    yield _bcr(9, "Full-duplex control", _DUPLEX, cached=0xFFFF)
    yield _bcr(16, "I/O base address, lower", whole("IOBASEL", RW, "ports on buses other than PCI", 0xFFE0, inert=True))
    yield _bcr(17, "I/O base address, upper", whole("IOBASEU", RW, "ports on buses other than PCI", inert=True))
    yield _bcr(18, "Burst and bus control", _BUS, 0x9001, cached=0xFFFF)
    yield _bcr(19, "EEPROM control and status", _EEPROM, 0x0002)
    yield _bcr(20, "Software style", CSRS[58].fields, 0x0200, cached=0xFFFF, behaviour="style")
    yield _bcr(21, "Interrupt control", whole("INTCON", RO, "reserved on PCI"))
    yield _bcr(22, "PCI latency", _LATENCY, 0xFF06, behaviour="latency")


BCRS: Final[dict[int, Register]] = by_index(_table())
