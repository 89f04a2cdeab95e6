"""QEMU's known errors, part 3: resets and the init block."""

from __future__ import annotations

from typing import Final

from machine.lance import bits
from tests.differential.context import RX, TX, Context
from tests.differential.row import KnownError
from tests.differential.steps import RESET

__all__ = ["ROWS"]

_RING_CSRS: Final = (72, 74, 76, 78)
_ON: Final = bits.CSR0_TXON | bits.CSR0_RXON


def _resets(c: Context) -> bool:
    access = c.access
    return access is not None and access.space == RESET and not access.writes


def _dwio_again(c: Context) -> list[str]:
    return c.qemu.switch_to_dwio() if _resets(c) and c.bcr(18) & bits.BCR18_DWIO else []


def _lengths_again(c: Context) -> list[str]:
    if not _resets(c):
        return []
    return [line for i in _RING_CSRS for line in c.qemu.raw_csr(i, -c.csr(i) & 0xFFFF)]


def _ring_at_zero(c: Context) -> bool:
    return any(c.now(0, on) and not c.ring(ring).base for ring, on in ((TX, bits.CSR0_TXON), (RX, bits.CSR0_RXON)))


ROWS: Final = (
    KnownError(
        "dwio-after-reset",
        "S_RESET goes back to 16-bit ports.",
        "BCR18: DWIO is cleared by H_RESET, and not affected by S_RESET.",
        checked="86Box keeps DWIO; FreeBSD's if_pcn.c: only a hardware reset leaves it",
        after=_dwio_again,
    ),
    KnownError(
        "lengths-after-reset",
        "S_RESET makes both rings one descriptor long (CSR72, 74, 76, 78).",
        "CSR72, 74, 76, 78: not affected by S_RESET.",
        checked="data sheet, p. 135: not affected by H_RESET, S_RESET or STOP; 86Box does as QEMU",
        after=_lengths_again,
    ),
    KnownError(
        "rings-after-reset",
        "S_RESET forgets where the rings are; STRT without a new INIT finds none.",
        "CSR24, 25, 30, 31: not affected by S_RESET, so that STRT can go on without INIT.",
        checked="data sheet, p. 135, says so of lengths and counters; 86Box forgets the rings, as QEMU does",
        ends=lambda c: c.rings_lost and c.now(0, _ON),
    ),
    KnownError(
        "ring-at-zero",
        "A ring at address 0 is no ring.",
        "Init block, RDRA and TDRA: any address; 0 is one.",
        checked="MAME's am79c90.cpp takes any address; 86Box does as QEMU",
        ends=_ring_at_zero,
    ),
)
