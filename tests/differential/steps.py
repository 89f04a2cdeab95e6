"""What a guest and the wire may do to a Lance: the steps of which a sequence consists.

Register steps name no port: where RAP, RDP and BDP are depends on the I/O mode at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = [
    "BCR",
    "CSR",
    "RESET",
    "WINDOW",
    "Access",
    "Config",
    "Inject",
    "Link",
    "Port",
    "Reg",
    "Reset",
    "Step",
    "Store",
    "accesses",
]

CSR: Final = "CSR"
BCR: Final = "BCR"
RAP: Final = "RAP"
RESET: Final = "RESET"
WINDOW: Final = 0x10000
"""Bytes of guest memory, from address 0, that both devices reach and that are compared."""

_WIO: Final = {0x10: CSR, 0x12: RAP, 0x14: RESET, 0x16: BCR}
_DWIO: Final = {0x10: CSR, 0x14: RAP, 0x18: RESET, 0x1C: BCR}


@dataclass(frozen=True, slots=True)
class Port:
    """IN (``value`` None) or OUT of ``width`` bytes at BAR0 + ``offset``."""

    offset: int
    width: int
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Reg:
    """A register of ``space`` (CSR or BCR) by way of RAP: read (``value`` None) or written."""

    space: str
    index: int
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """A read of the RESET port."""


@dataclass(frozen=True, slots=True)
class Config:
    """PCI configuration space: read (``value`` None) or written; within one double word, as a PC's bridge has it."""

    offset: int
    width: int
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """The driver writes ``data`` to guest memory."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Inject:
    """A frame, without FCS, comes from the wire."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """The cable is plugged in, or pulled out."""

    up: bool


Step = Port | Reg | Reset | Config | Store | Inject | Link


@dataclass(frozen=True, slots=True)
class Access:
    """One port access; ``space`` says what it reaches (CSR, BCR, RAP, RESET, or nothing), ``index`` which register."""

    offset: int
    width: int
    value: int | None
    space: str = ""
    index: int = 0

    @property
    def writes(self) -> bool:
        """It is an OUT."""
        return self.value is not None

    def reaches(self, space: str, index: int) -> bool:
        """It is an access to that register."""
        return self.space == space and self.index == index


def decode(step: Port, rap: int, dwio: bool) -> Access:
    """What a port access reaches, by the data sheet's port table: 16-bit ports in WIO, 32-bit ports in DWIO."""
    space = (_DWIO if dwio else _WIO).get(step.offset, "") if step.width == (4 if dwio else 2) else ""
    return Access(step.offset, step.width, step.value, space, rap if space in (CSR, BCR) else 0)


def accesses(step: Port | Reg | Reset, dwio: bool) -> Iterator[Port]:
    """The port accesses that a step consists of, in that I/O mode."""
    ports = {space: offset for offset, space in (_DWIO if dwio else _WIO).items()}
    width = 4 if dwio else 2
    if isinstance(step, Port):
        yield step
    elif isinstance(step, Reset):
        yield Port(ports[RESET], width)
    else:
        yield Port(ports[RAP], width, step.index)
        yield Port(ports[step.space], width, step.value)
