"""The control and status registers of the Am79C970A: one table, in the order of the data sheet.

Indices that are missing here are reserved: they read 0 and ignore writes. Where the data sheet leaves a
register undefined after H_RESET it is 0, and a ring is one descriptor long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from machine.lance import bits
from machine.lance.fields import BCR_SPACE, CSR_SPACE, Access, Field, Gate, Register, by_index, whole

__all__ = ["CSRS"]

INERT: Final = True
RO, RW, SPND, W1C, W1S = Access.RO, Access.RW, Access.SPND, Access.W1C, Access.W1S

_STATUS: Final = (
    Field("ERR", bits.CSR0_ERR, RO, "BABL, CERR, MISS or MERR is set"),
    Field("BABL", bits.CSR0_BABL, W1C, "more than 1518 bytes were transmitted in one frame"),
    Field("CERR", bits.CSR0_CERR, W1C, "no SQE test signal after a transmission; never interrupts"),
    Field("MISS", bits.CSR0_MISS, W1C, "a frame was lost because no receive descriptor was free"),
    Field("MERR", bits.CSR0_MERR, W1C, "the bus did not answer a DMA access"),
    Field("RINT", bits.CSR0_RINT, W1C, "the last descriptor of a received frame was given back"),
    Field("TINT", bits.CSR0_TINT, W1C, "the last descriptor of a sent frame was given back"),
    Field("IDON", bits.CSR0_IDON, W1C, "the init block was read"),
    Field("INTR", bits.CSR0_INTR, RO, "an unmasked cause is set"),
    Field("INEA", bits.CSR0_INEA, RW, "INTR may drive INTA#"),
    Field("RXON", bits.CSR0_RXON, RO, "receiver on: set with STRT unless DRX"),
    Field("TXON", bits.CSR0_TXON, RO, "transmitter on: set with STRT unless DTX"),
    Field("TDMD", bits.CSR0_TDMD, W1S, "read the transmit descriptor now; ignored without TXON"),
    Field("STOP", bits.CSR0_STOP, W1S, "all activity ends; wins over STRT and INIT"),
    Field("STRT", bits.CSR0_STRT, W1S, "the chip sends and receives; clears STOP"),
    Field("INIT", bits.CSR0_INIT, W1S, "the init block is read; clears STOP"),
)

_MASKS: Final = (
    Field("BABLM", bits.CSR3_BABLM, RW, "BABL does not set INTR"),
    Field("MISSM", bits.CSR3_MISSM, RW, "MISS does not set INTR"),
    Field("MERRM", bits.CSR3_MERRM, RW, "MERR does not set INTR"),
    Field("RINTM", bits.CSR3_RINTM, RW, "RINT does not set INTR"),
    Field("TINTM", bits.CSR3_TINTM, RW, "TINT does not set INTR"),
    Field("IDONM", bits.CSR3_IDONM, RW, "IDON does not set INTR"),
    Field("DXSUFLO", bits.CSR3_DXSUFLO, RW, "an underflow leaves TXON set"),
    Field("LAPPEN", bits.CSR3_LAPPEN, RW, "look-ahead packet processing", INERT),
    Field("DXMT2PD", bits.CSR3_DXMT2PD, RW, "no two-part deferral", INERT),
    Field("EMBA", bits.CSR3_EMBA, RW, "modified back-off algorithm", INERT),
    Field("BSWP", bits.CSR3_BSWP, RW, "buffers are big-endian", INERT),
)

_FEATURES: Final = (
    Field("EN124", bits.CSR4_EN124, RW, "CSR124 takes writes"),
    Field("DMAPLUS", bits.CSR4_DMAPLUS, RW, "DMA bursts are not limited by CSR80", INERT),
    Field("TIMER", bits.CSR4_TIMER, RW, "CSR82 limits the time on the bus", INERT),
    Field("DPOLL", bits.CSR4_DPOLL, RW, "the transmit ring is read only on TDMD"),
    Field("APAD_XMT", bits.CSR4_APAD_XMT, RW, "frames are padded to 64 bytes, FCS included"),
    Field("ASTRP_RCV", bits.CSR4_ASTRP_RCV, RW, "pad and FCS of 802.3 frames are stripped"),
    Field("MFCO", bits.CSR4_MFCO, W1C, "CSR112 wrapped"),
    Field("MFCOM", bits.CSR4_MFCOM, RW, "MFCO does not set INTR"),
    Field("UINTCMD", bits.CSR4_UINTCMD, W1S, "sets UINT, then clears itself"),
    Field("UINT", bits.CSR4_UINT, W1C, "the interrupt the driver asked for"),
    Field("RCVCCO", bits.CSR4_RCVCCO, W1C, "CSR114 wrapped", INERT),
    Field("RCVCCOM", bits.CSR4_RCVCCOM, RW, "RCVCCO does not set INTR", INERT),
    Field("TXSTRT", bits.CSR4_TXSTRT, W1C, "a transmission has begun"),
    Field("TXSTRTM", bits.CSR4_TXSTRTM, RW, "TXSTRT does not set INTR"),
    Field("JAB", bits.CSR4_JAB, W1C, "jabber on the twisted pair", INERT),
    Field("JABM", bits.CSR4_JABM, RW, "JAB does not set INTR", INERT),
)

_CONTROL: Final = (
    Field("TOKINTD", bits.CSR5_TOKINTD, RW, "no TINT for frames that were sent without error"),
    Field("LTINTEN", bits.CSR5_LTINTEN, RW, "TINT only for descriptors that ask for it (LTINT)"),
    Field("SINT", bits.CSR5_SINT, W1C, "system error on the bus", INERT),
    Field("SINTE", bits.CSR5_SINTE, RW, "SINT drives INTA#, whatever INEA says", INERT),
    Field("SLPINT", bits.CSR5_SLPINT, W1C, "the chip woke up", INERT),
    Field("SLPINTE", bits.CSR5_SLPINTE, RW, "SLPINT drives INTA#, whatever INEA says", INERT),
    Field("EXDINT", bits.CSR5_EXDINT, W1C, "a transmission was deferred excessively", INERT),
    Field("EXDINTE", bits.CSR5_EXDINTE, RW, "EXDINT sets INTR", INERT),
    Field("MPPLBA", bits.CSR5_MPPLBA, RW, "a magic packet may be for a group or for all; else only for PADR"),
    Field("MPINT", bits.CSR5_MPINT, W1C, "a magic packet came"),
    Field("MPINTE", bits.CSR5_MPINTE, RW, "MPINT sets INTR"),
    Field("MPEN", bits.CSR5_MPEN, RW, "magic packet mode is entered, if MPMODE allows it"),
    Field("MPMODE", bits.CSR5_MPMODE, RW, "magic packet mode is allowed: by MPEN, or by a pin that is not there"),
    Field("SPND", bits.CSR5_SPND, RW, "no new frame is sent or received; rings are kept"),
)

_TABLE_LENGTHS: Final = (
    Field("TLEN", 0xF000, RO, "log2 of the transmit ring's length, from the init block"),
    Field("RLEN", 0x0F00, RO, "log2 of the receive ring's length, from the init block"),
)

_MODE: Final = (
    Field("PROM", bits.CSR15_PROM, SPND, "every frame is received"),
    Field("DRCVBC", bits.CSR15_DRCVBC, SPND, "broadcasts are not received"),
    Field("DRCVPA", bits.CSR15_DRCVPA, SPND, "frames for PADR are not received"),
    Field("DLNKTST", bits.CSR15_DLNKTST, SPND, "the link counts as up always", INERT),
    Field("DAPC", bits.CSR15_DAPC, SPND, "no automatic polarity correction", INERT),
    Field("MENDECL", bits.CSR15_MENDECL, SPND, "loopback includes the encoder", INERT),
    Field("LRT/TSEL", bits.CSR15_LRT_TSEL, SPND, "low receive threshold (10BASE-T), idle level (AUI)", INERT),
    Field("PORTSEL", bits.CSR15_PORTSEL, SPND, "0 AUI, 1 10BASE-T, 2 GPSI", INERT),
    Field("INTL", bits.CSR15_INTL, SPND, "loopback does not leave the chip"),
    Field("DRTY", bits.CSR15_DRTY, SPND, "one attempt to transmit", INERT),
    Field("FCOLL", bits.CSR15_FCOLL, SPND, "collision in internal loopback"),
    Field("DXMTFCS", bits.CSR15_DXMTFCS, SPND, "no FCS is appended"),
    Field("LOOP", bits.CSR15_LOOP, SPND, "transmitted frames are received"),
    Field("DTX", bits.CSR15_DTX, SPND, "STRT does not set TXON"),
    Field("DRX", bits.CSR15_DRX, SPND, "STRT does not set RXON"),
)

_STYLE: Final = (
    Field("APERREN", bits.BCR20_APERREN, SPND, "advanced handling of bus parity errors", INERT),
    Field("CSRPCNET", bits.BCR20_CSRPCNET, RO, "CSRs have the PCnet layout; follows SWSTYLE"),
    Field("SSIZE32", bits.BCR20_SSIZE32, RO, "structures are 32 bits wide; follows SWSTYLE"),
    Field("SWSTYLE", bits.BCR20_SWSTYLE, SPND, "0 LANCE, 1 ILACC, 2 PCnet-PCI, 3 the same, words swapped"),
)

_FIFO: Final = (
    Field("RCVFW", 0x3000, SPND, "receive FIFO watermark: 16, 64, 128 bytes", INERT),
    Field("XMTSP", 0x0C00, SPND, "bytes in the FIFO before transmission starts: 4, 16, 64, 112", INERT),
    Field("XMTFW", 0x0300, SPND, "transmit FIFO watermark: 16, 64, 128 bytes", INERT),
    Field("DMACR", 0x00FF, SPND, "DMA transfers in one burst", INERT),
)

_TEST: Final = (
    Field("GPSIEN", bits.CSR124_GPSIEN, RW, "the general-purpose serial interface replaces the AUI pins", INERT),
    Field("RPA", bits.CSR124_RPA, RW, "runt frames are received", INERT),
)

_CSR5_STOP: Final = bits.CSR5_MPINT | bits.CSR5_SPND
_EN124: Final = Gate(CSR_SPACE, 4, bits.CSR4_EN124, "CSR4.EN124")


def _one(index: int, name: str, meaning: str, mask: int = 0xFFFF, *, reset: int = 0, s_reset: int = 0,
         cached: int = 0, behaviour: str = "plain", inert: bool = False) -> Register:  # fmt: skip
    """A register that is one number, writable while STOP or SPND."""
    fields = whole(name, SPND, meaning, mask, inert=inert)
    title = meaning[0].upper() + meaning[1:]
    return Register(CSR_SPACE, index, title, fields, reset=reset, s_reset=s_reset, cached=cached,
                    behaviour=behaviour)  # fmt: skip


def _address(index: int, name: str, meaning: str, *, cached: int = 0, inert: bool = False) -> Iterator[Register]:
    """A 32-bit bus address in two registers, low half first."""
    yield _one(index, f"{name}L", f"{meaning}, bits 15-0", cached=cached, inert=inert)
    yield _one(index + 1, f"{name}U", f"{meaning}, bits 31-16", cached=cached, inert=inert)


def _init_block_alias(index: int, of: int, name: str) -> Register:
    fields = whole(name, SPND, f"the same register as CSR{of}")
    return Register(CSR_SPACE, index, f"Alias of CSR{of}", fields, alias=(CSR_SPACE, of))


def _padr(index: int, low: int) -> Register:
    meaning = f"physical address, bits {low + 15}-{low}"
    note = "H_RESET and S_RESET load it from the APROM"
    return Register(CSR_SPACE, index, meaning.capitalize(), whole("PADR", SPND, meaning), cached=0xFFFF, note=note)


def _named(index: int, title: str, fields: tuple[Field, ...], *, reset: int = 0, s_reset: int = 0, stop: int = 0,
           cached: int = 0, behaviour: str = "plain", gate: Gate | None = None) -> Register:  # fmt: skip
    return Register(CSR_SPACE, index, title, fields, reset=reset, s_reset=s_reset, stop=stop, cached=cached,
                    behaviour=behaviour, gate=gate)  # fmt: skip


def _table() -> Iterator[Register]:
    yield _named(0, "Controller status", _STATUS, reset=0x0004, s_reset=0xFFFF, stop=0xFFFF, behaviour="status")
    yield from _address(1, "IADR", "init block address", cached=0xFFFF)
    yield _named(3, "Interrupt masks and deferral", _MASKS, s_reset=0xFFFF, cached=0x007C, behaviour="interrupts")
    yield _named(4, "Test and features", _FEATURES, reset=0x0115, s_reset=0xFFFF, stop=bits.CSR4_CAUSES, cached=0xFC00,
                 behaviour="features")  # fmt: skip
    yield _named(5, "Extended control and interrupts", _CONTROL, s_reset=0xFFFF, stop=_CSR5_STOP, cached=0xC001,
                 behaviour="control")  # fmt: skip
    yield _named(6, "Descriptor table lengths", _TABLE_LENGTHS, s_reset=0xFFFF)
    for i in range(4):
        meaning = f"logical address filter, bits {16 * i + 15}-{16 * i}"
        yield _one(8 + i, "LADRF", meaning, s_reset=0xFFFF, cached=0xFFFF)
    for i in range(3):
        yield _padr(12 + i, 16 * i)
    # S_RESET leaves the port, DRCVPA, INTL and LOOP alone, as the other models of this chip have it.
    yield _named(15, "Mode", _MODE, s_reset=0xDE3B, cached=0xFFFF)
    yield _init_block_alias(16, 1, "IADRL")
    yield _init_block_alias(17, 2, "IADRU")
    yield from _address(18, "CRBA", "current receive buffer", inert=True)
    yield from _address(20, "CXBA", "current transmit buffer", inert=True)
    yield from _address(22, "NRBA", "next receive buffer", inert=True)
    yield from _address(24, "BADR", "base of the receive ring", cached=0xFFFF)
    yield from _address(26, "NRDA", "next receive descriptor", inert=True, cached=0xFFFF)
    yield from _address(28, "CRDA", "current receive descriptor", inert=True, cached=0xFFFF)
    yield from _address(30, "BADX", "base of the transmit ring", cached=0xFFFF)
    yield from _address(32, "NXDA", "next transmit descriptor", inert=True)
    yield from _address(34, "CXDA", "current transmit descriptor", inert=True)
    yield from _address(36, "NNRD", "receive descriptor after the next", inert=True)
    yield from _address(38, "NNXD", "transmit descriptor after the next", inert=True)
    yield _one(40, "CRBC", "current receive byte count", 0x0FFF, inert=True)
    yield _one(41, "CRST", "current receive status", inert=True)
    yield _one(42, "CXBC", "current transmit byte count", 0x0FFF, inert=True)
    yield _one(43, "CXST", "current transmit status", inert=True)
    yield _one(44, "NRBC", "next receive byte count", 0x0FFF, inert=True)
    yield _one(45, "NRST", "next receive status", inert=True)
    yield _one(46, "POLL", "poll time counter, two's complement", inert=True)
    yield _one(47, "POLLINT", "polling interval in clocks, two's complement; 0 means 65536", inert=True)
    yield Register(CSR_SPACE, 58, "Software style, alias of BCR20", _STYLE, reset=0x0200, alias=(BCR_SPACE, 20),
                   cached=0xFFFF, behaviour="style")  # fmt: skip
    yield from _address(60, "PXDA", "previous transmit descriptor", inert=True)
    yield _one(62, "PXBC", "previous transmit byte count", 0x0FFF, inert=True)
    yield _one(63, "PXST", "previous transmit status", inert=True)
    yield from _address(64, "NXBA", "next transmit buffer", inert=True)
    yield _one(66, "NXBC", "next transmit byte count", 0x0FFF, inert=True)
    yield _one(67, "NXST", "next transmit status", inert=True)
    yield _one(72, "RCVRC", "receive ring counter, two's complement; CSR76 is the first descriptor", reset=0xFFFF,
               cached=0xFFFF)  # fmt: skip
    yield _one(74, "XMTRC", "transmit ring counter, two's complement; CSR78 is the first descriptor", reset=0xFFFF,
               cached=0xFFFF)  # fmt: skip
    for index, name, ring, counter in ((76, "RCVRL", "receive", 72), (78, "XMTRL", "transmit", 74)):
        meaning = f"{ring} ring length, two's complement; a write sets CSR{counter} too, so that the ring begins anew"
        yield _one(index, name, meaning, reset=0xFFFF, cached=0xFFFF, behaviour="ring-length")
    yield _named(80, "DMA transfer counter and FIFO watermarks", _FIFO, reset=0x1410, s_reset=0xFFFF)
    yield _one(82, "DMABAT", "bus activity timer, in 0.1 us", inert=True)
    yield from _address(84, "DMABA", "address of the DMA access", inert=True)
    yield _one(86, "DMABC", "byte counter of the DMA access", 0x0FFF, inert=True)
    yield _named(88, "Chip ID, lower", whole("CHIPIDL", RO, "manufacturer, and part number bits 3-0"), reset=0x1003)
    yield _named(89, "Chip ID, upper", whole("CHIPIDU", RO, "version, and part number bits 15-4"), reset=0x0262)
    yield _one(92, "RCON", "ring length conversion", inert=True)
    yield _named(94, "Time domain reflectometry", whole("XMTTDR", RO, "network clocks from the start of a transmission "
                 "to its collision", 0x03FF), s_reset=0xFFFF)  # fmt: skip
    yield _one(100, "MERRTO", "bus time-out before MERR, in 0.1 us", inert=True, reset=0x0200, s_reset=0xFFFF)
    yield _one(112, "MFC", "missed frames", s_reset=0xFFFF)
    yield _one(114, "RCC", "receive collisions", inert=True, s_reset=0xFFFF)
    yield _one(122, "RCVALGN", "data after the header is aligned to 4 bytes", 0x0001, s_reset=0xFFFF, cached=0x0001)
    yield _named(124, "Test register 1", _TEST, s_reset=0xFFFF, cached=0xFFFF, gate=_EN124)


CSRS: Final[dict[int, Register]] = by_index(_table())
