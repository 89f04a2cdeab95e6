"""QEMU's known errors, part 6: PCI configuration space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.differential.context import Context
from tests.differential.row import KnownError, Verdict
from tests.differential.steps import Config

__all__ = ["ROWS"]

_COMMAND: Final = 0x04
_COMMAND_HIGH: Final = 0x05
_STATUS: Final = 0x06
_CACHE_LINE: Final = 0x0C
_LATENCY_TIMER: Final = 0x0D
_MIN_GNT: Final = 0x3E
_MAX_LAT: Final = 0x3F
_HEADER_END: Final = 0x40
_PARITY_RESPONSE: Final = 0x40
_INTX_DISABLE: Final = 0x04
_INTX_STATUS: Final = 0x08


def _byte(c: Context, value: int, offset: int, change: Callable[[int], int], *, write: bool = False) -> int:
    """``value`` with the byte of configuration space at ``offset`` changed, if the step accesses it so."""
    step = c.step
    if not isinstance(step, Config) or (step.value is not None) is not write:
        return value
    shift = 8 * (offset - step.offset)
    if not 0 <= shift < 8 * step.width:
        return value
    return value & ~(0xFF << shift) | change(value >> shift & 0xFF) << shift


def _latencies(c: Context, value: int) -> int:
    value = _byte(c, value, _MIN_GNT, lambda _: c.bcr(22) & 0xFF)
    return _byte(c, value, _MAX_LAT, lambda _: c.bcr(22) >> 8)


def _as_ours(c: Context, value: int, offset: int, mask: int) -> int:
    ours = c.ours.regs.config_read(offset, 1)
    return _byte(c, value, offset, lambda theirs: theirs & ~mask | ours & mask)


ROWS: Final = (
    KnownError(
        "latency-alias",
        "MIN_GNT and MAX_LAT of configuration space stay 0x06 and 0xFF.",
        "BCR22: its two bytes are what offsets 0x3E and 0x3F show.",
        checked="Am79C971, p. 172: MIN_GNT is aliased to offset 0x3E; 86Box has constants there",
        reads=_latencies,
    ),
    KnownError(
        "latency-timer",
        "The latency timer takes no writes.",
        "PCI configuration, latency timer: read/write.",
        Verdict.MISSING,
        checked="Am79C970, p. 84: a working register; 86Box stores it",
        reads=lambda c, value: _as_ours(c, value, _LATENCY_TIMER, 0xFF),
    ),
    KnownError(
        "cache-line-size",
        "The register at offset 0x0C takes writes.",
        "PCI configuration: this chip has no cache line size; the offset is reserved.",
        checked="86Box takes no write there",
        reads=lambda c, value: _byte(c, value, _CACHE_LINE, lambda _: 0),
    ),
    KnownError(
        "parity-response",
        "Bit 6 of the PCI command register stays 0.",
        "PCI configuration, command register: PERREN, bit 6, is read/write.",
        Verdict.MISSING,
        checked="86Box takes the bit",
        reads=lambda c, value: _as_ours(c, value, _COMMAND, _PARITY_RESPONSE),
    ),
    KnownError(
        "interrupt-status",
        "Bit 3 of the PCI status register shows INTA#, and bit 10 of the command register turns INTA# off.",
        "PCI configuration: both bits are reserved; they are of PCI 2.3, and this chip is of PCI 2.1.",
        checked="86Box has neither bit",
        gives=lambda c, value: _byte(c, value, _COMMAND_HIGH, lambda byte: byte & ~_INTX_DISABLE, write=True),
        reads=lambda c, value: _byte(c, value, _STATUS, lambda byte: byte & ~_INTX_STATUS),
    ),
    KnownError(
        "beyond-header",
        "Configuration space from 0x40 on keeps what is written.",
        "PCI configuration: offsets 0x40 to 0xFF are reserved.",
        checked="86Box takes no write there",
        withholds=lambda c: isinstance(c.step, Config) and c.step.value is not None and c.step.offset >= _HEADER_END,
    ),
)
