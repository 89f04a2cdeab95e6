"""QEMU's known errors, part 7: transmission without a link."""

from __future__ import annotations

from typing import Final

from machine.lance import bits
from tests.differential.context import TX, Context
from tests.differential.row import KnownError, Verdict, Word
from tests.differential.rowstransmit import broken, chains
from tests.differential.steps import CSR

__all__ = ["ROWS"]

_MARKS: Final = {"status": bits.TMD1_ERR, "result": bits.TMD2_LCAR}
_TMAULOOP: Final = 0x4000


def _lost(c: Context) -> bool:
    return c.transmits and c.carrier_lost


def _err_alone(c: Context, value: int) -> int:
    return value & ~bits.CSR0_ERR if c.reads(CSR, 0) and not value & bits.CSR0_ERRORS else value


def _last_of_packet(c: Context, word: Word) -> int:
    """Only the last TMD of a packet is marked: what QEMU has set in others is taken back."""
    if word.ring != TX or not _lost(c) or word.part not in _MARKS:
        return word.theirs
    ends = {chain[-1].at for chain in chains(c) if chain[0].stp}
    return word.theirs if word.entry.at in ends else word.theirs & ~(_MARKS[word.part] & ~word.before)


def _skipped(c: Context) -> bool:
    return _lost(c) and any(not chain[0].stp for chain in chains(c))


def _quiet_loss(c: Context) -> int:
    return bits.CSR0_TINT if _lost(c) and c.now(5, bits.CSR5_TOKINTD) and any(chains(c)) else 0


def _coax_loop(c: Context) -> bool:
    return _lost(c) and bool(c.mode & bits.CSR15_LOOP and c.bcr(2) & _TMAULOOP) and any(chains(c))


def _inner_loop(c: Context) -> bool:
    return c.transmits and not c.ours.link_up and not c.carrier_lost and any(chains(c))


ROWS: Final = (
    KnownError(
        "err-stays",
        "A transmission without link sets ERR for ever: it stays when CERR is cleared, until STOP.",
        "CSR0: ERR is set while BABL, CERR, MISS or MERR is.",
        checked="MAME's am79c90.cpp computes ERR anew at each write; 86Box keeps it, as QEMU does",
        reads=_err_alone,
    ),
    KnownError(
        "lcar-place",
        "Without a link every TMD is marked with LCAR and ERR, those in the middle of a packet and skipped ones, too.",
        "TMD2: LCAR is written in the last TMD of a frame.",
        checked="MAME's am79c90.cpp marks the last TMD; 86Box looks at the link only for packets of one TMD",
        word=_last_of_packet,
        surplus=lambda c: bits.CSR0_CERR if _skipped(c) else 0,
    ),
    KnownError(
        "lcar-broken-chain",
        "Without a link a chain without ENP is no underflow.",
        "TMD2: BUFF and UFLO are set when the chip finds neither ENP nor a next TMD of its own.",
        Verdict.OPEN,
        checked="86Box: BUFF and UFLO, link or no link, as ours",
        ends=lambda c: _lost(c) and bool(broken(c)),
    ),
    KnownError(
        "lcar-tint",
        "With TOKINTD a frame that is lost for want of a link gives no TINT.",
        "CSR5: TOKINTD suppresses TINT for successful transmissions only.",
        checked="86Box: ERR gives a TINT in spite of TOKINTD",
        hidden=_quiet_loss,
    ),
    KnownError(
        "inner-loop",
        "Without a link a frame in internal loopback leaves well, and does not arrive.",
        "Loopback: with INTL the frame does not leave the chip; no link is needed.",
        checked="MAME's am79c90.cpp: internal loopback does not touch the wire; Linux' self-test (ethtool -t) uses it",
        ends=_inner_loop,
    ),
    KnownError(
        "tmauloop",
        "With TMAULOOP external loopback works without a link.",
        "BCR2: TMAULOOP lets external loopback pass the transceiver; of the link nothing is said.",
        Verdict.OPEN,
        checked="neither 86Box nor MAME knows the bit",
        ends=_coax_loop,
    ),
)
