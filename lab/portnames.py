"""I/O ports as ``lab`` tells them apart, and their names for people: which device, which register."""

from __future__ import annotations

from typing import Final

from machine.ports import (
    ELCR_MASTER,
    ELCR_SLAVE,
    LANCE_DEFAULT_BASE,
    LANCE_PORTS,
    PCI_CONFIG_ADDRESS,
    PCI_CONFIG_DATA,
    PIC_MASTER_COMMAND,
    PIC_MASTER_DATA,
    PIC_SLAVE_COMMAND,
    PIC_SLAVE_DATA,
)

__all__ = ["LANCE_RAP", "LANCE_RDP", "PIC_PORTS", "port_name"]

PIC_PORTS: Final = frozenset((PIC_MASTER_COMMAND, PIC_MASTER_DATA, PIC_SLAVE_COMMAND, PIC_SLAVE_DATA))
"""The ports of the 8259A pair."""

# Offsets of the 16-bit mode (WIO), which all drivers here use; data sheet, "I/O resources".
LANCE_RDP: Final = 0x10
LANCE_RAP: Final = 0x12
_LANCE_RESET: Final = 0x14
_LANCE_BDP: Final = 0x16

_NAMES: Final = {
    PIC_MASTER_COMMAND: "PIC master",
    PIC_MASTER_DATA: "PIC master mask",
    PIC_SLAVE_COMMAND: "PIC slave",
    PIC_SLAVE_DATA: "PIC slave mask",
    ELCR_MASTER: "ELCR master",
    ELCR_SLAVE: "ELCR slave",
    PCI_CONFIG_ADDRESS: "PCI address",
}
_LANCE_NAMES: Final = {LANCE_RDP: "RDP", LANCE_RAP: "RAP", _LANCE_RESET: "RESET", _LANCE_BDP: "BDP"}
_APROM_BYTES: Final = 16
_PCI_DATA: Final = range(PCI_CONFIG_DATA, PCI_CONFIG_DATA + 4)


def port_name(label: str, lance: int = LANCE_DEFAULT_BASE) -> str:
    """The name of a port as ``lab.status`` labels it ("0x1010"); the label itself where there is none.

    ``lance``: the Lance's first port.
    """
    try:
        port = int(label, 16)
    except ValueError:
        return label
    if lance <= port < lance + LANCE_PORTS:
        offset = port - lance
        return f"Lance {'APROM' if offset < _APROM_BYTES else _LANCE_NAMES.get(offset, f'+{offset:#x}')}"
    return "PCI data" if port in _PCI_DATA else _NAMES.get(port, label)
