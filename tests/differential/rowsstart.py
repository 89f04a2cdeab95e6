"""QEMU's known errors, part 2: CSR0's commands, and what interrupts."""

from __future__ import annotations

from typing import Final

from machine.lance import bits
from tests.differential.context import RX, TX, Context
from tests.differential.row import KnownError, Verdict
from tests.differential.steps import CSR

__all__ = ["ROWS"]

_CSR4_PLAIN: Final = 0xFFFF & ~(bits.CSR4_CAUSES | bits.CSR4_UINTCMD)  # bits that keep what is written


def _stop_alone(c: Context, value: int) -> int:
    return bits.CSR0_STOP if c.writes(CSR, 0) and value & bits.CSR0_STOP else value


def _spnd_cleared(c: Context) -> list[str]:
    """STOP of a stopped chip is nothing to QEMU; SPND, set while stopped, would stay."""
    stops = c.writes(CSR, 0) and c.was(0, bits.CSR0_STOP) and c.now(0, bits.CSR0_STOP)
    return c.qemu.raw_csr(5, c.csr(5)) if stops and c.was(5, bits.CSR5_SPND) and not c.now(5, bits.CSR5_SPND) else []


def _off_after(c: Context, value: int) -> bool:
    """The transmitter will be off when the value has been written to CSR0."""
    if c.was(0, bits.CSR0_TXON):
        return False
    starts = value & bits.CSR0_STRT and not c.was(0, bits.CSR0_STRT)
    return not starts


def _no_tdmd_when_off(c: Context, value: int) -> int:
    """With a TXON that should not be there, TDMD would send; and so would a poll, hence DPOLL."""
    if c.writes(CSR, 0) and c.stuck and _off_after(c, value):
        return value & ~bits.CSR0_TDMD
    return value | bits.CSR4_DPOLL if c.writes(CSR, 4) and c.held else value


def _hold(c: Context) -> list[str]:
    """QEMU's DPOLL: set as long as its transmitter is on against the data sheet, as the guest has it afterwards."""
    wanted = c.stuck and not c.now(0, bits.CSR0_TXON)
    if wanted == c.held:
        return []
    c.held = wanted
    return c.qemu.raw_csr(4, c.csr(4) & _CSR4_PLAIN | (bits.CSR4_DPOLL if wanted else 0))


def _stuck_seen(c: Context, value: int) -> int:
    if c.reads(CSR, 0) and c.stuck and not c.now(0, bits.CSR0_TXON):
        return value & ~bits.CSR0_TXON
    return value & ~bits.CSR4_DPOLL | c.csr(4) & bits.CSR4_DPOLL if c.reads(CSR, 4) and c.held else value


def _look(c: Context) -> list[str]:
    """QEMU polls the transmit ring once, as TDMD makes the chip do."""
    if not c.transmits or not c.now(4, bits.CSR4_DPOLL):
        return []
    plain = c.csr(4) & _CSR4_PLAIN
    return [*c.qemu.raw_csr(4, plain & ~bits.CSR4_DPOLL), *c.qemu.raw_csr(4, plain)]


def _suspended(c: Context, value: int) -> int:
    return value & ~bits.CSR0_TDMD if c.writes(CSR, 0) and c.was(5, bits.CSR5_SPND) else value


def _resumed(c: Context) -> list[str]:
    over = c.was(5, bits.CSR5_SPND) and not c.now(5, bits.CSR5_SPND)
    return _look(c) if over and c.was(0, bits.CSR0_TDMD) else []


def _suspended_seen(c: Context, value: int) -> int:
    return value | c.csr(0) & bits.CSR0_TDMD if c.reads(CSR, 0) and c.now(5, bits.CSR5_SPND) else value


def _falls_asleep(c: Context) -> bool:
    value = c.access.value if c.access else None
    return c.writes(CSR, 5) and value is not None and value & bits.CSR5_MAGIC == bits.CSR5_MAGIC


def _sends(c: Context) -> bool:
    """QEMU would send a frame, and so clear TDMD, if it looked at its ring now."""
    if c.carrier_lost:
        return False
    started = False
    for entry in c.ring(TX).owned():
        started |= entry.stp
        if started and entry.enp:
            return True
    return False


def _sticky_tdmd(c: Context, value: int) -> int:
    if not c.writes(CSR, 0) or not value & bits.CSR0_TDMD:
        return value
    starts = value & (bits.CSR0_STRT | bits.CSR0_INIT) and not c.was(0, bits.CSR0_STRT)
    return value & ~bits.CSR0_TDMD if starts or not _sends(c) else value


def _demanded(c: Context) -> list[str]:
    value = c.access.value if c.access else None
    withheld = c.writes(CSR, 0) and value is not None and _sticky_tdmd(c, value) != value
    return _look(c) if withheld and not c.was(5, bits.CSR5_SPND) else []


def _init_again(c: Context) -> bool:
    value = c.access.value if c.access else None
    if value is None or not c.writes(CSR, 0) or value & bits.CSR0_STOP:
        return False
    return bool(value & bits.CSR0_INIT) and c.was(0, bits.CSR0_STRT) and not c.was(0, bits.CSR0_INIT)


def _uint_given(c: Context, value: int) -> int:
    return value & ~bits.CSR4_UINTCMD if c.writes(CSR, 4) else value


def _uint_seen(c: Context, value: int) -> int:
    return value | c.csr(4) & bits.CSR4_UINT if c.reads(CSR, 4) else value


def _txstrt_seen(c: Context, value: int) -> int:
    if not c.reads(CSR, 4):
        return value
    if c.sent_since_csr4:
        value = value & ~bits.CSR4_TXSTRTM | c.csr(4) & bits.CSR4_TXSTRTM
    return value | c.csr(4) & bits.CSR4_TXSTRT


def _unmasked(c: Context, cause: int) -> int:
    """INTR, while that cause of CSR4 is set and its mask, one bit below, is not."""
    return bits.CSR0_INTR if c.now(4, cause) and not c.now(4, cause >> 1) else 0


def _astray(c: Context) -> bool:
    """A half of the chip is on, may work, and its position is not in its ring."""
    if c.now(5, bits.CSR5_SPND):
        return False
    on = ((TX, bits.CSR0_TXON), (RX, bits.CSR0_RXON))
    return any(c.now(0, bit) and not c.ring(ring).valid for ring, bit in on)


def _no_memory(c: Context) -> bool:
    return c.ours.counter("memory_errors") != c.merrs


ROWS: Final = (
    KnownError(
        "stop-alone",
        "STOP with one of STRT and INIT stops and starts; STOP while stopped takes INEA and TDMD, and leaves SPND.",
        "CSR0: STOP overrides INIT, STRT and TDMD, and clears INEA. CSR5: STOP clears SPND.",
        checked="MAME's am79c90.cpp: STOP overrides all other bits; 86Box does as QEMU",
        gives=_stop_alone,
        after=_spnd_cleared,
    ),
    KnownError(
        "txon-after-stop",
        "STOP sets TXON, which stays: CSR0 reads 0x0014, TDMD sends while stopped, and after INIT polling sends, too.",
        "CSR0: STOP clears TXON and RXON; without TXON no descriptor is read and TDMD is reset.",
        checked="86Box and VirtualBox: CSR0 is 0x0004, without which Linux' pcnet32.c finds no chip",
        gives=_no_tdmd_when_off,
        after=_hold,
        reads=_stuck_seen,
    ),
    KnownError(
        "tdmd-while-suspended",
        "TDMD sends at once although the chip is suspended.",
        "CSR5: while SPND is set no new frame is sent.",
        checked="the data sheet alone; 86Box does as QEMU",
        gives=_suspended,
        after=_resumed,
        reads=_suspended_seen,
    ),
    KnownError(
        "magic-packet",
        "MPEN and MPMODE do nothing.",
        "CSR5: with both of them the chip neither sends nor receives, and waits for a magic packet.",
        Verdict.MISSING,
        checked="Am79C961A, p. 84: normal activity is suspended; 86Box does as QEMU",
        skips=_falls_asleep,
    ),
    KnownError(
        "tdmd-stays",
        "TDMD stays set until a frame has been sent, and sends whatever is queued later, DPOLL or not.",
        "CSR0: TDMD is cleared when the transmit descriptor is fetched.",
        checked="MAME's am79c90.cpp: one look for each TDMD; 86Box clears it after a descriptor of any kind",
        gives=_sticky_tdmd,
        after=_demanded,
    ),
    KnownError(
        "init-while-started",
        "INIT after a STRT without it leaves TXON and RXON as they are.",
        "CSR0 asks for INIT before or with STRT, and says of this order only that CSR15 is loaded anew.",
        Verdict.OPEN,
        checked="86Box does as QEMU; MAME's am79c90.cpp carries INIT out only after STOP",
        skips=_init_again,
    ),
    KnownError(
        "uint",
        "UINTCMD waits for INEA, then pulses INTA# once; UINT itself does not interrupt.",
        "CSR4: UINTCMD sets UINT, and UINT sets INTR until it is cleared.",
        checked="86Box: UINT is set at once and interrupts until it is cleared, as ours; its INTR needs INEA",
        gives=_uint_given,
        reads=_uint_seen,
        hidden=lambda c: bits.CSR0_INTR if c.now(4, bits.CSR4_UINT) else 0,
    ),
    KnownError(
        "txstrt",
        "The start of a transmission sets bit 2 of CSR4, the mask TXSTRTM, instead of bit 3, TXSTRT.",
        "CSR4: TXSTRT is bit 3, and interrupts unless TXSTRTM is set.",
        checked="86Box and VirtualBox set bit 3",
        reads=_txstrt_seen,
        hidden=lambda c: _unmasked(c, bits.CSR4_TXSTRT),
    ),
    KnownError(
        "mfco",
        "The counter of missed frames wraps without a trace.",
        "CSR4: MFCO is set when CSR112 wraps, and interrupts unless MFCOM is set.",
        Verdict.MISSING,
        checked="the data sheet alone; 86Box does as QEMU; OpenBSD's if_pcn.c masks it (MFCOM)",
        reads=lambda c, value: value | c.csr(4) & bits.CSR4_MFCO if c.reads(CSR, 4) else value,
        hidden=lambda c: _unmasked(c, bits.CSR4_MFCO),
    ),
    KnownError(
        "counter-beyond-ring",
        "A counter (CSR72, CSR74) larger than its ring's length is a descriptor before the ring.",
        "CSR72, CSR74: the counter is loaded from the length; no meaning of others is given. Ours begins anew.",
        Verdict.OPEN,
        checked="Am79C971, p. 142: 0 is the last descriptor, of others nothing; 86Box does as QEMU",
        ends=_astray,
    ),
    KnownError(
        "memory-error",
        "DMA to addresses without memory succeeds; MERR is never set.",
        "CSR0: MERR is set when no target answers (a master abort).",
        Verdict.MISSING,
        checked="Linux' pcnet32.c reports MERR; 86Box and MAME never set it",
        ends=_no_memory,
    ),
)
