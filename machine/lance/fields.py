"""A small declarative kit for register tables: one line a field, masks computed once.

A table made of these drives everything that has to agree about a register: what a write may change, what
each kind of reset restores, the documentation, the traces and the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["BCR_SPACE", "CSR_SPACE", "Access", "Field", "Gate", "Register", "by_index", "whole"]

CSR_SPACE: Final = "CSR"
BCR_SPACE: Final = "BCR"


class Access(Enum):
    """Who may change a field, and how. Reading is always allowed."""

    RO = "read only"
    RW = "read/write"
    STOP = "written only while STOP"
    SPND = "written only while STOP or SPND"
    W1C = "write 1 to clear"
    W1S = "write 1 to set"


@dataclass(frozen=True, slots=True)
class Field:
    """Adjacent bits with one meaning; ``mask`` says where they are.

    ``inert``: the real chip does as ``meaning`` says; here the bits are kept and read back, and do nothing else. What
    they are about does not exist here (bus bursts, transceivers, pins, collisions), or is not modelled.
    """

    name: str
    mask: int
    access: Access
    meaning: str
    inert: bool = False

    @property
    def shift(self) -> int:
        """Position of the lowest bit."""
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def bits(self) -> str:
        """Where the field is, as data sheets write it: "7" or "15-8"."""
        high, low = self.mask.bit_length() - 1, self.shift
        return str(high) if high == low else f"{high}-{low}"

    @property
    def described(self) -> str:
        """The meaning, and that it is the real chip's alone where it is."""
        if not self.inert:
            return self.meaning
        return f"{self.meaning} (*{'never set here' if self.access is Access.W1C else 'kept, without effect here'}*)"

    def extract(self, value: int) -> int:
        """The field's value within ``value``, shifted down."""
        return (value & self.mask) >> self.shift


@dataclass(frozen=True, slots=True)
class Gate:
    """A register takes writes only while the bits ``mask`` of another one, ``space``/``index``, are set."""

    space: str
    index: int
    mask: int
    name: str


@dataclass(frozen=True, slots=True)
class Register:
    """One 16-bit register: fields, values after resets, and what else a write does.

    ``reset``: value after H_RESET. ``s_reset`` and ``stop``: the bits that S_RESET and STOP put back to it.
    ``alias``: (space, index) of the register that holds the value. ``cached``: bits from which an engine
    derives state of its own. ``behaviour``: name of the write handler in ``machine.lance.regfile``.
    """

    space: str
    index: int
    title: str
    fields: tuple[Field, ...]
    reset: int = 0
    s_reset: int = 0
    stop: int = 0
    alias: tuple[str, int] | None = None
    gate: Gate | None = None
    cached: int = 0
    behaviour: str = "plain"
    note: str = ""

    @property
    def name(self) -> str:
        """Space and index: CSR15, BCR20."""
        return f"{self.space}{self.index}"

    @property
    def inert(self) -> bool:
        """It can be written, and no field of it that can has an effect here."""
        return all(field.inert for field in self.fields if field.access is not Access.RO) and bool(
            self.mask(Access.RW, Access.STOP, Access.SPND)
        )

    def mask(self, *access: Access) -> int:
        """The bits whose field has one of these access modes."""
        return sum(field.mask for field in self.fields if field.access in access)

    def writable(self, *, stopped: bool, suspended: bool) -> int:
        """The bits that take a written value as it is, in that state of the chip."""
        modes = [Access.RW]
        if stopped or suspended:
            modes.append(Access.SPND)
        if stopped:
            modes.append(Access.STOP)
        return self.mask(*modes)

    def decode(self, value: int) -> dict[str, int]:
        """Field name -> value, for every field."""
        return {field.name: field.extract(value) for field in self.fields}

    def explain(self, value: int, inert: str = "") -> str:
        """For traces: names of the single bits that are set, ``NAME=0x..`` for wider fields that aren't 0.

        ``inert`` is put behind what has no effect here.
        """
        words = []
        for field in self.fields:
            content = field.extract(value)
            if content:
                word = field.name if field.mask.bit_count() == 1 else f"{field.name}={content:#x}"
                words.append(word + inert if field.inert else word)
        return " ".join(words)


def whole(name: str, access: Access, meaning: str, mask: int = 0xFFFF, *, inert: bool = False) -> tuple[Field, ...]:
    """The fields of a register that is one number."""
    return (Field(name, mask, access, meaning, inert),)


def by_index(registers: Iterable[Register]) -> dict[int, Register]:
    """Index -> register; the order of the table is kept."""
    return {register.index: register for register in registers}
