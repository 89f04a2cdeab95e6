"""QEMU's known errors, part 4: transmission and loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zlib import crc32

from machine.lance import bits
from tests.differential.context import TX, Context, Entry
from tests.differential.row import KnownError, Verdict, Word

__all__ = ["ROWS", "broken", "chains"]

_LONGEST: Final = 1514
_BUFFER: Final = 4092  # QEMU's own, without room for the FCS
_SHORTEST: Final = 60
_FCS: Final = 4
_LEFT: Final = bits.TMD1_ERR | bits.TMD1_LTINT | bits.TMD1_ONE | bits.TMD1_DEF
_FAULT: Final = bits.TMD2_BUFF | bits.TMD2_UFLO
_COLLISION: Final = bits.CSR15_LOOP | bits.CSR15_INTL | bits.CSR15_FCOLL


def chains(c: Context) -> Iterator[list[Entry]]:
    """The packets that the chip finds in its ring, one list of TMDs each; TMDs without STP are lists of their own.

    The last one may lack its ENP.
    """
    chain: list[Entry] = []
    for entry in c.ring(TX).owned():
        chain.append(entry)
        if entry.enp or not chain[0].stp:
            yield chain
            chain = []
    if chain:
        yield chain


def _packets(c: Context) -> list[list[Entry]]:
    return [chain for chain in chains(c) if chain[0].stp and chain[-1].enp]


def _total(chain: list[Entry]) -> int:
    return sum(entry.size for entry in chain)


def _own_fcs(c: Context, chain: list[Entry]) -> bool:
    """The packet brings its own FCS: DXMTFCS unless ADD_FCS, and in style 1 also NO_FCS."""
    bit = bool(chain[0].status & bits.TMD1_ADD_FCS)
    own = bool(c.mode & bits.CSR15_DXMTFCS)
    own = own or bit if c.style == 1 else own and not bit
    padded = _total(chain) < _SHORTEST + _FCS and c.now(4, bits.CSR4_APAD_XMT)
    return own and not padded


def _padded(c: Context, frames: list[bytes]) -> list[bytes]:
    if not c.now(4, bits.CSR4_APAD_XMT):
        return frames
    return [frame.ljust(_SHORTEST, b"\0") for frame in frames]


def _stripped(c: Context, frames: list[bytes]) -> list[bytes]:
    packets = _packets(c)
    if len(packets) != len(frames):
        return frames
    result = []
    for frame, packet in zip(frames, packets, strict=True):
        if not _own_fcs(c, packet):
            result.append(frame)
        elif crc32(frame[:-_FCS]) == int.from_bytes(frame[-_FCS:], "little"):
            result.append(frame[:-_FCS])
    return result


def _babble(c: Context) -> int:
    if not c.transmits:
        return 0
    longest = (_total(packet) - (_FCS if _own_fcs(c, packet) else 0) for packet in _packets(c))
    return bits.CSR0_BABL if max(longest, default=0) > _LONGEST else 0


def _too_long(c: Context) -> bool:
    return c.transmits and any(_total(chain) > _BUFFER for chain in chains(c) if chain[0].stp)


def _stp_within(c: Context) -> bool:
    return c.transmits and any(entry.stp for chain in chains(c) for entry in chain[1:])


def broken(c: Context) -> list[Entry]:
    """The packet at the end of what is queued that has no ENP."""
    found = list(chains(c))
    return found[-1] if found and found[-1][0].stp and not found[-1][-1].enp else []


def _endless(c: Context) -> bool:
    return c.transmits and bool(broken(c)) and len(c.ring(TX).owned()) >= c.ring(TX).length


def _underflow(c: Context, word: Word) -> int:
    chain = broken(c)
    if word.ring != TX or len(chain) < 2:
        return word.theirs
    mask = {"status": bits.TMD1_ERR, "result": _FAULT}.get(word.part, 0)
    if word.entry.at == chain[0].at:
        return word.theirs & ~(mask & ~word.before)
    return word.theirs | mask if word.entry.at == chain[-1].at else word.theirs


def _left_over(c: Context, word: Word) -> int:
    """Bits that the driver had set there before are cleared where the chip writes the word."""
    if word.ring != TX or not word.returned or word.part not in ("status", "result"):
        return word.theirs
    mask = _LEFT if word.part == "status" else 0xFFFF0000 if c.style == 0 else 0xFFFFFFFF
    return word.theirs & ~(word.before & ~word.ours & mask)


def _skip_tint(c: Context) -> int:
    quiet = c.now(5, bits.CSR5_TOKINTD)
    skipped = any(not chain[0].stp for chain in chains(c))
    return bits.CSR0_TINT if quiet and skipped and c.transmits else 0


def _loops(c: Context) -> bool:
    return bool(c.mode & bits.CSR15_LOOP) and c.transmits


def _loop_of_short(c: Context) -> bool:
    return _loops(c) and any(_total(packet) < _SHORTEST for packet in _packets(c))


def _loop_with_own_fcs(c: Context) -> bool:
    return _loops(c) and any(_own_fcs(c, packet) for packet in _packets(c))


def _must_be_ones(c: Context) -> bool:
    ring = c.ring(TX)
    return c.transmits and any(entry.count & bits.TMD1_ONES != bits.TMD1_ONES for entry in ring.owned())


ROWS: Final = (
    KnownError(
        "pad",
        "APAD_XMT does nothing: short frames go out short.",
        "CSR4: with APAD_XMT frames are padded to 60 bytes and the FCS.",
        Verdict.MISSING,
        checked="Linux' pcnet32.c and OpenBSD's if_pcn.c set APAD_XMT and pad nothing themselves; 86Box does as QEMU",
        frames=_padded,
    ),
    KnownError(
        "own-fcs",
        "DXMTFCS is only known in loopback: the FCS that the driver appends leaves as if it were data.",
        "CSR15: with DXMTFCS the chip appends no FCS, the frame's last four bytes are it; a wrong one reaches nobody.",
        Verdict.MISSING,
        checked="MAME's am79c90.cpp: no FCS with DTCR unless ADD_FCS; 86Box does as QEMU",
        frames=_stripped,
    ),
    KnownError(
        "babble",
        "BABL is never set.",
        "CSR0: BABL is set after more than 1518 bytes of one frame, FCS included.",
        Verdict.MISSING,
        checked="MAME's am79c90.cpp: BABL above 1518 bytes with FCS",
        hidden=_babble,
    ),
    KnownError(
        "long-frame",
        "A packet of more than 4092 bytes disappears, without an error.",
        "Transmit descriptors: any number may be chained; the length is limited by nothing but BABL.",
        Verdict.MISSING,
        checked="the data sheet alone; 86Box and VirtualBox give up at 1536 bytes, MAME at 4096",
        ends=_too_long,
    ),
    KnownError(
        "stp-within",
        "A second STP before an ENP starts the packet anew; what came before is lost.",
        "TMD1: STP marks the first buffer; one in the middle of a chain is not defined. Ours ignores it.",
        Verdict.OPEN,
        checked="86Box and MAME ignore it within a chain, as ours does",
        ends=_stp_within,
    ),
    KnownError(
        "endless-chain",
        "A ring full of TMDs without ENP is given back without an error.",
        "TMD2: BUFF and UFLO are set when the chip finds neither ENP nor a next TMD of its own.",
        checked="86Box: a chain that meets its own beginning is an underflow",
        ends=_endless,
    ),
    KnownError(
        "underflow-place",
        "A chain without ENP is marked as broken in its first TMD.",
        "TMD2: BUFF is set in the current TMD, the last one that the chip has.",
        checked="86Box and MAME's am79c90.cpp mark the last TMD",
        word=_underflow,
    ),
    KnownError(
        "tmd-left-overs",
        "ERR, MORE, ONE, DEF and TMD2 stay as the driver left them.",
        "TMD1, TMD2: the chip sets these bits, and the host clears them; ours writes all of them.",
        Verdict.OPEN,
        checked="data sheet, p. 163-164, of RMDs: set by the chip, cleared by the host; 86Box and MAME leave them",
        word=_left_over,
    ),
    KnownError(
        "ltint",
        "LTINTEN without TOKINTD changes nothing: every TMD gives a TINT. With both, LTINT counts in every TMD.",
        "CSR5: with LTINTEN a frame gives a TINT only if LTINT is set in its last TMD.",
        checked="OpenBSD's if_pcn.c sets LTINTEN alone, and LTINT in some TMDs; 86Box does as QEMU",
        surplus=lambda c: bits.CSR0_TINT if c.now(5, bits.CSR5_LTINTEN) else 0,
    ),
    KnownError(
        "tint-of-skipped",
        "With TOKINTD a TMD without STP is skipped silently.",
        "CSR5: TOKINTD suppresses TINT for successful transmissions; skipping is not mentioned. Ours gives a TINT.",
        Verdict.OPEN,
        checked="86Box and MAME give none either; no driver read for this leaves such a TMD",
        hidden=_skip_tint,
    ),
    KnownError(
        "tmd-ones",
        "A TMD whose ONES are not 1111 counts as not owned.",
        "TMD1: ONES must be written as ones; the chip does not check them.",
        Verdict.OPEN,
        checked="Am79C965, p. 172, of RMDs: not changed by the chip; 86Box does as QEMU, MAME takes them for length",
        ends=_must_be_ones,
    ),
    KnownError(
        "loop-collision",
        "FCOLL does nothing.",
        "CSR15: FCOLL in internal loopback makes every attempt collide; the TMD gets RTRY.",
        Verdict.MISSING,
        checked="MAME's am79c90.cpp: RTRY and ERR in the TMD",
        ends=lambda c: c.transmits and c.mode & _COLLISION == _COLLISION and any(chains(c)),
    ),
    KnownError(
        "loop-of-short-frames",
        "A frame of less than 60 bytes is looped with what an earlier frame has left in the transmitter behind it.",
        "Loopback: short frames come back as they are, or padded by APAD_XMT.",
        checked="MAME's am79c90.cpp loops 8 to 32 bytes as they are; so 86Box means to, by its comment",
        ends=_loop_of_short,
    ),
    KnownError(
        "loop-with-own-fcs",
        "The FCS of a looped frame that brings its own is compared with bytes behind the frame.",
        "Loopback: with DXMTFCS the receiver checks the FCS that the driver has appended.",
        checked="MAME's am79c90.cpp checks the FCS that the frame brings (DTCR)",
        ends=_loop_with_own_fcs,
    ),
)
