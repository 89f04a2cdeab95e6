"""A row of the table of QEMU's known errors: what it says, and the hooks by which the comparison follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.differential.context import Context, Entry

__all__ = ["Byte", "KnownError", "Verdict", "Word"]


class Verdict(Enum):
    """Whose fault a difference is."""

    WRONG = "QEMU is wrong"
    MISSING = "QEMU does not model it"
    OPEN = "open: the data sheet does not say"


@dataclass(frozen=True, slots=True)
class Word:
    """A descriptor's word that differs. ``part``: status, count, result or address (style 0 joins two in one word)."""

    ring: str
    entry: Entry
    part: str
    ours: int
    theirs: int
    before: int

    @property
    def returned(self) -> bool:
        """The chip had it before the step."""
        return self.entry.owned


@dataclass(frozen=True, slots=True)
class Byte:
    """A byte outside descriptors that differs."""

    address: int
    ours: int
    theirs: int
    before: int


@dataclass(frozen=True, slots=True)
class KnownError:
    """One row; ``data_sheet`` names section or register, ``checked`` what else was asked: drivers, other emulators.

    The hooks are all optional, and act in this order.

    ``skips``: the step is given to neither machine. ``withholds``: only ours is given it, and an IN has to find nothing
    there. ``gives``, ``arrives``: what QEMU is given instead of a written value, and of a frame. ``ends``: asked when
    ours has acted; the sequence ends, as nothing can be compared any more. ``after``: lines for QEMU that follow its
    access. ``reads``: what the chip would have answered in QEMU's place. ``hidden``: CSR0 bits that ours has and QEMU
    cannot have; INTR stands for a cause outside CSR0. ``surplus``: CSR0 causes that QEMU may raise without reason; they
    are cleared there. ``frames``, ``word``, ``byte``: what QEMU should have sent or stored.
    """

    name: str
    qemu: str
    data_sheet: str
    verdict: Verdict = Verdict.WRONG
    checked: str = ""
    skips: Callable[[Context], bool] | None = None
    withholds: Callable[[Context], bool] | None = None
    gives: Callable[[Context, int], int] | None = None
    arrives: Callable[[Context, bytes], bytes] | None = None
    ends: Callable[[Context], bool] | None = None
    after: Callable[[Context], list[str]] | None = None
    reads: Callable[[Context, int], int] | None = None
    hidden: Callable[[Context], int] | None = None
    surplus: Callable[[Context], int] | None = None
    frames: Callable[[Context, list[bytes]], list[bytes]] | None = None
    word: Callable[[Context, Word], int] | None = None
    byte: Callable[[Context, Byte], int] | None = None
