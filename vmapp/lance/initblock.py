"""The initialization block: what INIT makes the chip fetch from guest memory.

Two forms, chosen by BCR20.SSIZE32: 12 16-bit words (24 bytes) or 7 32-bit words (28 bytes). Am79C970A data
sheet, "Initialization block".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from machine.memory import GuestMemory

__all__ = ["InitBlock", "fetch"]

_BYTES_16: Final = 24
_BYTES_32: Final = 28


@dataclass(frozen=True, slots=True)
class InitBlock:
    """The block's contents: mode is CSR15, ring bases are bus addresses, ``rlen`` and ``tlen`` are encoded."""

    mode: int
    padr: bytes
    ladrf: bytes
    rx_base: int
    tx_base: int
    rlen: int
    tlen: int


def fetch(memory: GuestMemory, address: int, wide: bool) -> InitBlock | None:
    """Reads the block at guest address ``address`` (``wide``: its 32-bit form); None if a byte is out of reach."""
    block = memory.read(address, _BYTES_32 if wide else _BYTES_16)
    if block is None:
        return None
    # From here on a copy, lest a guest on another processor changes the block half way.
    return _parse_32(block) if wide else _parse_16(block)


def _parse_32(block: bytes) -> InitBlock:
    return InitBlock(
        mode=_little(block, 0, 2),
        padr=block[4:10],
        ladrf=block[12:20],
        rx_base=_little(block, 20, 4),
        tx_base=_little(block, 24, 4),
        rlen=block[2] >> 4,
        tlen=block[3] >> 4,
    )


def _parse_16(block: bytes) -> InitBlock:
    return InitBlock(
        mode=_little(block, 0, 2),
        padr=block[2:8],
        ladrf=block[8:16],
        rx_base=_little(block, 16, 3),
        tx_base=_little(block, 20, 3),
        rlen=block[19] >> 5,
        tlen=block[23] >> 5,
    )


def _little(block: bytes, offset: int, size: int) -> int:
    return int.from_bytes(block[offset : offset + size], "little")
