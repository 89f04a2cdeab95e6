"""QEMU's known errors, part 5: reception."""

from __future__ import annotations

from typing import Final
from zlib import crc32

from machine.lance import bits
from tests.differential.context import RX, Context, Entry
from tests.differential.row import Byte, KnownError, Verdict, Word
from tests.differential.steps import CSR, Inject

__all__ = ["ROWS"]

_FCS: Final = 4
_SHORTEST: Final = 60
_INNER: Final = 46  # bytes of data in a frame of minimum length
_LOOKAHEAD: Final = 3
_ZEROS: Final = 0xF000
_WRITTEN: Final = {"status": (0x7F000000, 0x7FFF0000), "result": (0xFFFF0000, 0xFFFFFFFF)}  # in style 0, in others


def _may_receive(c: Context) -> bool:
    """A frame is offered to the receiver in this step."""
    return isinstance(c.step, Inject) or bool(c.looped)


def _off(c: Context) -> bool:
    """INIT without STRT: the chip is not stopped, and not started."""
    off = not c.now(0, bits.CSR0_STOP | bits.CSR0_RXON)
    return isinstance(c.step, Inject) and off and not c.mode & bits.CSR15_DRX


def _mode_of_receiver(c: Context) -> bool:
    if not c.writes(CSR, 15) or c.was(0, bits.CSR0_STOP) or not c.was(5, bits.CSR5_SPND):
        return False
    value = c.access.value if c.access and c.access.value is not None else 0
    return bool((value ^ c.mode) & bits.CSR15_DRX)


def _ahead(c: Context) -> list[Entry]:
    """The RMDs that the chip may look at for what arrives in this step."""
    ring = c.ring(RX)
    count = min(ring.length, _LOOKAHEAD + max(0, len(c.looped) - 1))
    return [entry for i in range(count) if (entry := ring.entry(i)) is not None]


def _malformed(c: Context) -> bool:
    def bad(entry: Entry) -> bool:
        zeros = (entry.result >> 16 if c.style == 0 else entry.result) & _ZEROS
        return entry.owned and (entry.count & bits.RMD1_ONES != bits.RMD1_ONES or bool(zeros))

    return _may_receive(c) and any(bad(entry) for entry in _ahead(c))


def _scattered(c: Context) -> bool:
    """The RMD whose turn it is belongs to the driver, and another one to the chip."""
    if not isinstance(c.step, Inject) and not c.mode & bits.CSR15_LOOP:
        return False
    ring = c.ring(RX)
    first = ring.entry(0)
    return (
        first is not None
        and not first.owned
        and any((entry := ring.entry(i)) is not None and entry.owned for i in range(1, min(ring.length, 0x2000)))
    )


def _needs_four(c: Context) -> bool:
    if not _may_receive(c):
        return False
    ring = c.ring(RX)
    run = ring.owned()
    rooms = [entry.size for entry in run[: _LOOKAHEAD + max(0, len(c.looped) - 1)]]
    need = max((len(frame) + _FCS for frame in c.incoming()), default=0)
    if isinstance(c.step, Inject):
        return len(run) > _LOOKAHEAD and sum(rooms) < need
    return bool(rooms) and _LOOKAHEAD * min(rooms) < need


def _stripped(c: Context) -> bool:
    short = any(int.from_bytes(frame[12:14], "big") < _INNER for frame in c.incoming())
    return c.now(4, bits.CSR4_ASTRP_RCV) and short


def _left_over(c: Context, word: Word) -> int:
    if word.ring != RX or not word.returned or word.part not in ("status", "result"):
        return word.theirs
    narrow, wide = _WRITTEN[word.part]
    return word.theirs & ~(word.before & ~word.ours & (wide if c.style else narrow))


def _fcs_of(c: Context, address: int) -> tuple[int, int] | None:
    """(the FCS byte that belongs at an address, the one that QEMU puts there), or None if it is no FCS's place."""
    run = iter(c.ring(RX).owned())
    for frame in c.incoming():
        right = crc32(frame)
        theirs = bytes(_FCS) if isinstance(c.step, Inject) else (right ^ 0xFFFFFFFF).to_bytes(_FCS, "big")
        start, total = 0, len(frame) + _FCS
        while start < total and (entry := next(run, None)) is not None:
            buffer = entry.buffer | (0 if c.style else (c.csr(2) & 0xFF00) << 16)
            place = start + address - buffer - len(frame)
            if buffer <= address < buffer + min(entry.size, total - start) and 0 <= place < _FCS:
                return right.to_bytes(_FCS, "little")[place], theirs[place]
            start += entry.size
    return None


def _fcs(c: Context, byte: Byte) -> int:
    if c.frame is not None and _rejected(c):
        return byte.theirs
    known = _fcs_of(c, byte.address)
    return known[0] if known is not None and byte.theirs == known[1] else byte.theirs


def _passing(c: Context, byte: Byte) -> int:
    """Ours may have put the frame into the chip's own buffer before the filter turned it down."""
    first = c.ring(RX).entry(0)
    if c.frame is None or first is None or not first.owned or c.now(0, bits.CSR0_STOP):
        return byte.theirs
    place = byte.address - first.buffer
    frame = c.frame.ljust(_SHORTEST, b"\0")
    inside = 0 <= place < min(first.size, len(frame)) and byte.theirs == byte.before
    return frame[place] if inside and _rejected(c) else byte.theirs


def _rejected(c: Context) -> bool:
    """No RMD has been given back."""
    first = c.ring(RX).entry(0)
    return first is not None and bool(c.ours.memory[first.at + (3 if c.style == 0 else 7)] & 0x80)


ROWS: Final = (
    KnownError(
        "short-frame",
        "Frames of less than 60 bytes are received as they are.",
        "Frame format: 64 bytes with FCS at least; less is a runt, which RPA (CSR124) admits. No host's frame is one.",
        Verdict.OPEN,
        checked="86Box and VirtualBox pad to 60 bytes, as ours; MAME drops runts",
        arrives=lambda _c, frame: frame.ljust(_SHORTEST, b"\0"),
    ),
    KnownError(
        "receives-before-start",
        "Frames are received after INIT, before STRT.",
        "CSR0: the receiver is on while RXON, which STRT sets.",
        checked="MAME's am79c90.cpp asks for RXON; 86Box does as QEMU",
        withholds=_off,
    ),
    KnownError(
        "receiver-switch",
        "DRX works at once when CSR15 is written while suspended; RXON stays.",
        "CSR15: DRX decides whether STRT sets RXON; of a change while suspended nothing is said.",
        Verdict.OPEN,
        checked="86Box looks at DRX as QEMU does, MAME's am79c90.cpp at RXON as ours",
        skips=_mode_of_receiver,
    ),
    KnownError(
        "rmd-must-be",
        "An RMD whose ONES are not 1111, or whose ZEROS are not 0000, counts as not owned.",
        "RMD1, RMD2: ONES and ZEROS are to be written so; the chip does not check them.",
        Verdict.OPEN,
        checked="Am79C965, p. 172: ONES are not changed by the chip; 86Box looks at them, MAME takes them for length",
        ends=_malformed,
    ),
    KnownError(
        "searches-ring",
        "If the RMD whose turn it is belongs to the driver, the next one that does not is used instead.",
        "Receive descriptor table entry: the chip polls the current RMD; without it, a frame is missed.",
        checked="86Box and MAME: the current RMD or none",
        skips=lambda c: isinstance(c.step, Inject) and _scattered(c),
        ends=lambda c: bool(c.looped) and _scattered(c),
    ),
    KnownError(
        "three-buffers",
        "A frame takes three RMDs at most; what does not fit into them is lost, with OFLO and BUFF.",
        "RMD1: a frame may be chained over any number of buffers; BUFF means that the next one is not the chip's.",
        Verdict.MISSING,
        checked="86Box, VirtualBox and MAME chain over any number",
        ends=_needs_four,
    ),
    KnownError(
        "strip",
        "ASTRP_RCV does nothing.",
        "CSR4: with ASTRP_RCV pad and FCS of 802.3 frames with less than 46 bytes of data are stripped.",
        Verdict.MISSING,
        checked="86Box and VirtualBox strip, under the same condition",
        ends=_stripped,
    ),
    KnownError(
        "receive-fcs",
        "The FCS of a received frame is stored as zeros; in loopback as the CRC register, not inverted, bytes swapped.",
        "Frame format: the FCS is part of what is received, and follows the data in memory.",
        checked="MAME's am79c90.cpp: CRC32, inverted, low byte first; 86Box stores the register as it is",
        byte=_fcs,
    ),
    KnownError(
        "rejected-frame",
        "Nothing of a frame that the address filter rejects gets into memory.",
        "Address matching takes place while the frame arrives; a buffer is undefined until its RMD is given back.",
        Verdict.OPEN,
        checked="86Box and MAME filter first; no driver may look",
        byte=_passing,
    ),
    KnownError(
        "rmd-left-overs",
        "Error bits, ENP and STP, BPE, reserved bits, RPC and RCC stay as the driver left them.",
        "RMD1, RMD2: the chip sets these bits, and the host clears them; ours writes all of them.",
        Verdict.OPEN,
        checked="data sheet, p. 163-164: set by the chip, cleared by the host; 86Box and MAME leave them, as QEMU does",
        word=_left_over,
    ),
)
