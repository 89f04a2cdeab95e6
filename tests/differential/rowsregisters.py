"""QEMU's known errors, part 1: what its registers keep, show and take."""

from __future__ import annotations

from typing import Final

from machine.lance import bits
from tests.differential.context import Context
from tests.differential.row import KnownError, Verdict
from tests.differential.steps import BCR, CSR

__all__ = ["ROWS"]

_DEFINED: Final = {  # register: the bits that the data sheet defines, where QEMU keeps all 16
    (CSR, 3): 0x5F7C,
    (CSR, 5): 0xCFFF,
    (BCR, 2): 0x51BF,
    (BCR, 4): 0x63FF,
    (BCR, 5): 0x63FF,
    (BCR, 6): 0x63FF,
    (BCR, 7): 0x63FF,
    (BCR, 9): 0x0007,
    (BCR, 18): 0xF3E7,
    (BCR, 19): 0xE017,
}
_READ_ONLY: Final = {(BCR, 18): bits.BCR18_DWIO, (BCR, 19): 0xE000}
_LEDS: Final = (4, 5, 6, 7)
_GUARDED: Final = (1, 2, *range(8, 18), *range(18, 48), 72, 74, 76, 78)
_WORKING: Final = (*range(18, 24), *range(26, 30), *range(32, 47), *range(60, 68))
_BASES: Final = (24, 25, 30, 31)
_FIXED: Final = (*range(60, 68), 80, 82, 84, 85, 86, 92, 100, 114, 122)
_COUNTERS: Final = (72, 74, 76, 78)
_LENGTHS: Final = (76, 78)
_APROM_END: Final = 0x10
_WIDE: Final = 4
_IO_BASES: Final = (16, 17)
_STYLES: Final = (0, 1, 2, 3)


def _quiet(c: Context) -> bool:
    """The chip is stopped or suspended."""
    return c.was(0, bits.CSR0_STOP) or c.was(5, bits.CSR5_SPND)


def _defined(c: Context, value: int) -> int:
    key = (c.access.space, c.access.index) if c.access else ("", 0)
    return value & _DEFINED.get(key, 0xFFFFFFFF)


def _read_only(c: Context, value: int) -> int:
    mask = _READ_ONLY.get((c.access.space, c.access.index), 0) if c.access else 0
    return value & ~mask | (c.bcr(c.access.index) & mask if mask and c.access else 0)


def _running(c: Context) -> bool:
    return not _quiet(c) and (c.writes(CSR, *_GUARDED) or c.writes(BCR, 22))


def _led_without_ledpe(c: Context) -> bool:
    return c.writes(BCR, *_LEDS) and not c.bcr(2) & bits.BCR2_LEDPE


def _working(c: Context, value: int) -> int:
    return c.csr(c.access.index) if c.access and c.reads(CSR, *_WORKING) else value


def _bases(c: Context, value: int) -> int:
    return c.csr(c.access.index) if c.access and c.reads(CSR, *_BASES) else value


def _fixed(c: Context) -> bool:
    return (_quiet(c) and c.writes(CSR, *_FIXED)) or (c.writes(CSR, 124) and c.was(4, bits.CSR4_EN124))


def _negated(c: Context, value: int) -> int:
    return -value & 0xFFFF if c.writes(CSR, *_COUNTERS) or c.reads(CSR, *_COUNTERS) else value


def _no_length(c: Context) -> bool:
    return bool(c.access and c.writes(CSR, *_LENGTHS) and not (c.access.value or 0) & 0xFFFF)


def _counter_again(c: Context) -> list[str]:
    if not (c.writes(CSR, *_LENGTHS) and _quiet(c) and c.access):
        return []
    counter = c.access.index - 4
    return c.qemu.raw_csr(counter, -c.csr(counter) & 0xFFFF)


def _narrow_aprom(c: Context, value: int) -> int:
    access = c.access
    if access is None or access.writes or access.offset >= _APROM_END or access.width == _WIDE:
        return value
    return c.ours.regs.read(access.offset, access.width) if c.bcr(18) & bits.BCR18_DWIO else value


def _undocumented(c: Context, value: int) -> int:
    return 0 if c.reads(CSR, 103) else value


def _io_base(c: Context, value: int) -> int:
    return c.bcr(c.access.index) if c.access and c.reads(BCR, *_IO_BASES) else value


def _misaligned(c: Context) -> bool:
    return bool(c.access and c.access.offset % c.access.width)


def _style(c: Context, value: int) -> int:
    if c.writes(BCR, 20) or c.writes(CSR, 58):
        known = value & bits.BCR20_SWSTYLE in _STYLES
        return value & (bits.BCR20_APERREN | bits.BCR20_SWSTYLE if known else bits.BCR20_APERREN)
    return value


ROWS: Final = (
    KnownError(
        "reserved-bits",
        "Keeps all 16 written bits of CSR3, CSR5, BCR2, BCR4 to BCR7, BCR9, BCR18 and BCR19.",
        "Reserved locations of these registers are written as zeros and read as undefined; ours reads them as 0.",
        Verdict.OPEN,
        checked="data sheet, p. 135: read as undefined; 86Box keeps all 16 bits, as QEMU does",
        gives=_defined,
    ),
    KnownError(
        "read-only-bits",
        "BCR18.DWIO and BCR19's PVALID, PREAD and EEDET take what is written.",
        "BCR18: DWIO is read only, set by a 32-bit write to RDP. BCR19: these three are the chip's.",
        checked="FreeBSD's if_pcn.c: only a hardware reset leaves 32-bit mode; 86Box takes the bits, as QEMU does",
        gives=_read_only,
    ),
    KnownError(
        "running-writes",
        "CSR1, 2, 8 to 47, 72 to 78 and BCR22 take writes at any time.",
        "Each of these registers: write accessible only while STOP or SPND is set.",
        checked="data sheet, p. 135; 86Box ignores the same writes to CSRs, but for CSR15",
        withholds=_running,
    ),
    KnownError(
        "led-gate",
        "BCR4 to BCR7 take writes whatever BCR2 says.",
        "BCR2: without LEDPE, writes to the LED registers have no effect.",
        checked="Linux' pcnet32.c sets LEDPE before it uses the LEDs; 86Box has no gate",
        withholds=_led_without_ledpe,
    ),
    KnownError(
        "working-registers",
        "CSR18-23, 26-29, 32-46, 60-67 show its own idea of current and next descriptors and buffers, 0 for bad ones.",
        "These registers mirror the buffer management unit at work and are for tests; no value is promised.",
        Verdict.OPEN,
        checked="86Box fills in some of them, in its own way; no driver read for this looks at them",
        reads=_working,
    ),
    KnownError(
        "ring-bases",
        "CSR24, 25, 30 and 31 are plain storage: INIT does not load them, and writing them moves no ring.",
        "CSR24, CSR25 (BADR), CSR30, CSR31 (BADX): the base addresses of the rings; INIT loads them.",
        checked="86Box: a write moves the ring, in the same states as ours; INIT does not show there",
        skips=lambda c: _quiet(c) and c.writes(CSR, *_BASES),
        reads=_bases,
    ),
    KnownError(
        "fixed-registers",
        "Ignores writes to CSR60-67, 80, 82, 84-86, 92, 100, 114, 122 and 124.",
        "All of them are read/write while STOP or SPND; CSR124 while EN124.",
        Verdict.MISSING,
        checked="OpenBSD's if_pcn.c writes CSR80; data sheet, p. 135; Am79C978A, p. 141 (CSR122); 86Box ignores it",
        skips=_fixed,
    ),
    KnownError(
        "positive-counters",
        "Ring lengths and counters (CSR72, 74, 76, 78) are positive numbers that count down.",
        "Each holds the two's complement of a number of descriptors, and counts up.",
        checked="data sheet, p. 135; 86Box admits it in a comment, and negates what is written to CSR76 and 78",
        gives=_negated,
        reads=_negated,
    ),
    KnownError(
        "length-of-zero",
        "A ring length of 0 (CSR76, CSR78) becomes 512, as a guard against an endless loop.",
        "CSR76, CSR78: any length from 1 to 65535, in two's complement; ours takes 0 for 65536.",
        Verdict.OPEN,
        checked="data sheet, p. 135: a length is 1 to 65535; 86Box keeps 0",
        skips=_no_length,
    ),
    KnownError(
        "counter-with-length",
        "A write to a ring's length (CSR76, CSR78) leaves its counter (CSR72, CSR74).",
        "CSR72, CSR74: a counter takes the value in CSR76 or CSR78 for the first descriptor; so ours begins there.",
        checked="86Box loads the counter, for drivers that use no init block",
        after=_counter_again,
    ),
    KnownError(
        "aprom-width",
        "In 32-bit mode the address PROM answers no bytes and no words.",
        "I/O resources: in 32-bit mode it is read by double words; of others nothing is promised.",
        checked="Linux' pcnet32.c and OpenBSD's if_pcn.c read bytes; VirtualBox answers them; 86Box does as QEMU",
        reads=_narrow_aprom,
    ),
    KnownError(
        "csr103",
        "CSR103 reads 0x0105.",
        "CSR103 is a reserved register of this chip.",
        Verdict.OPEN,
        checked="86Box has QEMU's value; the drivers read for this do not look at it",
        reads=_undocumented,
    ),
    KnownError(
        "io-base",
        "BCR16 and BCR17 read 0 and take no writes.",
        "BCR16, BCR17 (IOBASEL, IOBASEU): reserved, undefined after H_RESET, of no effect.",
        Verdict.OPEN,
        checked="86Box does as QEMU; the drivers read for this do not use them",
        reads=_io_base,
    ),
    KnownError(
        "misaligned-access",
        "Its bus splits an access that is not aligned to its width, and the chip sees the parts.",
        "I/O resources: the chip answers no such access; ours ignores an OUT, and an IN finds all ones.",
        Verdict.OPEN,
        checked="86Box splits none: it answers ones, as ours",
        withholds=_misaligned,
    ),
    KnownError(
        "unknown-style",
        "An unknown SWSTYLE clears BCR20 but for CSRPCNET; a known one leaves all reserved bits as written.",
        "BCR20: APERREN is a bit of its own; SWSTYLE values beyond 3 are undefined.",
        Verdict.OPEN,
        checked="86Box and VirtualBox keep the unknown number (0x0204); Linux' pcnet32.c writes 4 when it closes",
        gives=_style,
    ),
)
