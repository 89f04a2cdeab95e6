"""Bit masks of the Lance's registers and descriptors: plain integers, for code that runs on every access.

The tables in ``machine.lance.csrs`` and ``machine.lance.bcrs`` are built from these masks and say more about
each bit. Descriptor masks are those of the 32-bit layouts (SWSTYLE 2 and 3), Am79C970A data sheet, "TMD1",
"TMD2", "RMD1", "RMD2".
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BCR2_APROMWE",
    "BCR2_LEDPE",
    "BCR9_AUIFD",
    "BCR9_FDEN",
    "BCR9_FDRPAD",
    "BCR18_DWIO",
    "BCR20_APERREN",
    "BCR20_CSRPCNET",
    "BCR20_SSIZE32",
    "BCR20_SWSTYLE",
    "CSR0_BABL",
    "CSR0_CAUSES",
    "CSR0_CERR",
    "CSR0_ERR",
    "CSR0_ERRORS",
    "CSR0_IDON",
    "CSR0_INEA",
    "CSR0_INIT",
    "CSR0_INTR",
    "CSR0_MERR",
    "CSR0_MISS",
    "CSR0_RINT",
    "CSR0_RXON",
    "CSR0_STOP",
    "CSR0_STRT",
    "CSR0_TDMD",
    "CSR0_TINT",
    "CSR0_TXON",
    "CSR3_BABLM",
    "CSR3_BSWP",
    "CSR3_DXMT2PD",
    "CSR3_DXSUFLO",
    "CSR3_EMBA",
    "CSR3_IDONM",
    "CSR3_LAPPEN",
    "CSR3_MASKS",
    "CSR3_MERRM",
    "CSR3_MISSM",
    "CSR3_RINTM",
    "CSR3_TINTM",
    "CSR4_APAD_XMT",
    "CSR4_ASTRP_RCV",
    "CSR4_CAUSES",
    "CSR4_DMAPLUS",
    "CSR4_DPOLL",
    "CSR4_EN124",
    "CSR4_JAB",
    "CSR4_JABM",
    "CSR4_MFCO",
    "CSR4_MFCOM",
    "CSR4_PAIR_MASKS",
    "CSR4_RCVCCO",
    "CSR4_RCVCCOM",
    "CSR4_TIMER",
    "CSR4_TXSTRT",
    "CSR4_TXSTRTM",
    "CSR4_UINT",
    "CSR4_UINTCMD",
    "CSR5_CAUSES",
    "CSR5_ENABLES_ALONE",
    "CSR5_ENABLES_WITH_INEA",
    "CSR5_EXDINT",
    "CSR5_EXDINTE",
    "CSR5_LTINTEN",
    "CSR5_MAGIC",
    "CSR5_MPEN",
    "CSR5_MPINT",
    "CSR5_MPINTE",
    "CSR5_MPMODE",
    "CSR5_MPPLBA",
    "CSR5_SINT",
    "CSR5_SINTE",
    "CSR5_SLPINT",
    "CSR5_SLPINTE",
    "CSR5_SPND",
    "CSR5_TOKINTD",
    "CSR15_DAPC",
    "CSR15_DLNKTST",
    "CSR15_DRCVBC",
    "CSR15_DRCVPA",
    "CSR15_DRTY",
    "CSR15_DRX",
    "CSR15_DTX",
    "CSR15_DXMTFCS",
    "CSR15_FCOLL",
    "CSR15_INTL",
    "CSR15_LOOP",
    "CSR15_LRT_TSEL",
    "CSR15_MENDECL",
    "CSR15_PORTSEL",
    "CSR15_PROM",
    "CSR124_GPSIEN",
    "CSR124_RPA",
    "LED_LEDOUT",
    "LED_LNKSTE",
    "RMD1_BAM",
    "RMD1_BCNT",
    "RMD1_BPE",
    "RMD1_BUFF",
    "RMD1_CRC",
    "RMD1_ENP",
    "RMD1_ERR",
    "RMD1_FRAM",
    "RMD1_LAFM",
    "RMD1_OFLO",
    "RMD1_ONES",
    "RMD1_OWN",
    "RMD1_PAM",
    "RMD1_STP",
    "RMD2_MCNT",
    "RMD2_RCC",
    "RMD2_RPC",
    "TMD1_ADD_FCS",
    "TMD1_BCNT",
    "TMD1_BPE",
    "TMD1_DEF",
    "TMD1_ENP",
    "TMD1_ERR",
    "TMD1_LTINT",
    "TMD1_ONE",
    "TMD1_ONES",
    "TMD1_OWN",
    "TMD1_STP",
    "TMD2_BUFF",
    "TMD2_EXDEF",
    "TMD2_LCAR",
    "TMD2_LCOL",
    "TMD2_RTRY",
    "TMD2_TRC",
    "TMD2_UFLO",
]

CSR0_ERR: Final = 0x8000  # BABL | CERR | MISS | MERR
CSR0_BABL: Final = 0x4000  # transmitted frame too long
CSR0_CERR: Final = 0x2000  # no collision signal after transmission (SQE test), or no link
CSR0_MISS: Final = 0x1000  # frame lost: no receive descriptor
CSR0_MERR: Final = 0x0800  # DMA got no answer
CSR0_RINT: Final = 0x0400  # receive interrupt
CSR0_TINT: Final = 0x0200  # transmit interrupt
CSR0_IDON: Final = 0x0100  # initialisation done
CSR0_INTR: Final = 0x0080  # some unmasked cause is set
CSR0_INEA: Final = 0x0040  # INTA# enable
CSR0_RXON: Final = 0x0020  # receiver on
CSR0_TXON: Final = 0x0010  # transmitter on
CSR0_TDMD: Final = 0x0008  # look for a TMD now
CSR0_STOP: Final = 0x0004  # all activity stopped
CSR0_STRT: Final = 0x0002  # started
CSR0_INIT: Final = 0x0001  # init block read
CSR0_CAUSES: Final = 0x7F00  # write one to clear
CSR0_ERRORS: Final = 0x7800  # what ERR sums up

CSR3_MASKS: Final = 0x5F00  # interrupt masks, where CSR0 has the causes; CERR has none
CSR3_BABLM: Final = 0x4000  # BABL masked
CSR3_MISSM: Final = 0x1000  # MISS masked
CSR3_MERRM: Final = 0x0800  # MERR masked
CSR3_RINTM: Final = 0x0400  # RINT masked
CSR3_TINTM: Final = 0x0200  # TINT masked
CSR3_IDONM: Final = 0x0100  # IDON masked
CSR3_DXSUFLO: Final = 0x0040  # an underflow does not turn the transmitter off
CSR3_LAPPEN: Final = 0x0020  # look-ahead packet processing
CSR3_DXMT2PD: Final = 0x0010  # no two-part deferral
CSR3_EMBA: Final = 0x0008  # modified back-off algorithm
CSR3_BSWP: Final = 0x0004  # big-endian buffers

CSR4_EN124: Final = 0x8000  # CSR124 may be written
CSR4_DMAPLUS: Final = 0x4000  # bursts not limited by CSR80
CSR4_TIMER: Final = 0x2000  # bus activity timer on
CSR4_DPOLL: Final = 0x1000  # no polling for TMDs; only TDMD starts transmission
CSR4_APAD_XMT: Final = 0x0800  # pad short frames to 64 bytes with FCS
CSR4_ASTRP_RCV: Final = 0x0400  # strip pad and FCS of 802.3 frames
CSR4_MFCO: Final = 0x0200  # missed frame counter wrapped
CSR4_MFCOM: Final = 0x0100  # MFCO masked
CSR4_UINTCMD: Final = 0x0080  # ask for a UINT
CSR4_UINT: Final = 0x0040  # user interrupt
CSR4_RCVCCO: Final = 0x0020  # receive collision counter wrapped
CSR4_RCVCCOM: Final = 0x0010  # RCVCCO masked
CSR4_TXSTRT: Final = 0x0008  # transmission has begun
CSR4_TXSTRTM: Final = 0x0004  # TXSTRT masked
CSR4_JAB: Final = 0x0002  # jabber on the twisted pair
CSR4_JABM: Final = 0x0001  # JAB masked
CSR4_CAUSES: Final = 0x026A  # write one to clear
CSR4_PAIR_MASKS: Final = 0x0115  # each masks the cause one bit above it

CSR5_TOKINTD: Final = 0x8000  # no TINT for frames sent well
CSR5_LTINTEN: Final = 0x4000  # TINT only for TMDs with LTINT
CSR5_SINT: Final = 0x0800  # system error on the bus
CSR5_SINTE: Final = 0x0400  # SINT enabled
CSR5_SLPINT: Final = 0x0200  # woken up
CSR5_SLPINTE: Final = 0x0100  # SLPINT enabled
CSR5_EXDINT: Final = 0x0080  # excessive deferral
CSR5_EXDINTE: Final = 0x0040  # EXDINT enabled
CSR5_MPPLBA: Final = 0x0020  # magic packet may have a logical address
CSR5_MPINT: Final = 0x0010  # magic packet came
CSR5_MPINTE: Final = 0x0008  # MPINT enabled
CSR5_MPEN: Final = 0x0004  # magic packet mode by pin
CSR5_MPMODE: Final = 0x0002  # magic packet mode
CSR5_SPND: Final = 0x0001  # suspended
CSR5_MAGIC: Final = 0x0006  # MPEN | MPMODE: magic packet mode is on
CSR5_CAUSES: Final = 0x0A90  # write one to clear
CSR5_ENABLES_WITH_INEA: Final = 0x0048  # each enables the cause one bit above it, while INEA is set
CSR5_ENABLES_ALONE: Final = 0x0500  # the same, whatever INEA says

CSR15_PROM: Final = 0x8000  # promiscuous
CSR15_DRCVBC: Final = 0x4000  # broadcast not received
CSR15_DRCVPA: Final = 0x2000  # physical address not received
CSR15_DLNKTST: Final = 0x1000  # link test off
CSR15_DAPC: Final = 0x0800  # polarity correction off
CSR15_MENDECL: Final = 0x0400  # loopback inside the encoder
CSR15_LRT_TSEL: Final = 0x0200  # low receive threshold, or AUI idle level
CSR15_PORTSEL: Final = 0x0180  # 0 AUI, 1 10BASE-T, 2 GPSI
CSR15_INTL: Final = 0x0040  # internal loopback
CSR15_DRTY: Final = 0x0020  # no retry
CSR15_FCOLL: Final = 0x0010  # force a collision
CSR15_DXMTFCS: Final = 0x0008  # no FCS appended
CSR15_LOOP: Final = 0x0004  # loopback
CSR15_DTX: Final = 0x0002  # transmitter disabled
CSR15_DRX: Final = 0x0001  # receiver disabled

CSR124_GPSIEN: Final = 0x0010  # general-purpose serial interface
CSR124_RPA: Final = 0x0008  # runts accepted

BCR2_LEDPE: Final = 0x1000  # BCR4-7 may be written
BCR2_APROMWE: Final = 0x0100  # the APROM may be written

LED_LEDOUT: Final = 0x8000  # an enabled signal is on
LED_LNKSTE: Final = 0x0040  # show the link

BCR9_FDRPAD: Final = 0x0004  # no runt packet accept in full duplex
BCR9_AUIFD: Final = 0x0002  # full duplex on the AUI too
BCR9_FDEN: Final = 0x0001  # full duplex

BCR18_DWIO: Final = 0x0080  # ports are 32 bits wide

BCR20_APERREN: Final = 0x0400  # advanced parity error handling
BCR20_CSRPCNET: Final = 0x0200  # CSRs are laid out as a PCnet's
BCR20_SSIZE32: Final = 0x0100  # descriptors and init block are 32-bit
BCR20_SWSTYLE: Final = 0x00FF  # 0 LANCE, 1 ILACC, 2 PCnet-PCI, 3 PCnet-PCI with swapped words

TMD1_OWN: Final = 0x80000000  # the chip's, else the driver's
TMD1_ERR: Final = 0x40000000  # RTRY | LCOL | LCAR | UFLO | BUFF
TMD1_ADD_FCS: Final = 0x20000000  # append an FCS although DXMTFCS is set
TMD1_LTINT: Final = 0x10000000  # give a TINT (LTINTEN); written back as MORE: several retries
TMD1_ONE: Final = 0x08000000  # one retry
TMD1_DEF: Final = 0x04000000  # deferred
TMD1_STP: Final = 0x02000000  # start of packet
TMD1_ENP: Final = 0x01000000  # end of packet
TMD1_BPE: Final = 0x00800000  # bus parity error
TMD1_ONES: Final = 0x0000F000  # must be ones
TMD1_BCNT: Final = 0x00000FFF  # buffer length, two's complement

TMD2_BUFF: Final = 0x80000000  # next buffer not owned
TMD2_UFLO: Final = 0x40000000  # underflow
TMD2_EXDEF: Final = 0x20000000  # excessive deferral
TMD2_LCOL: Final = 0x10000000  # late collision
TMD2_LCAR: Final = 0x08000000  # loss of carrier
TMD2_RTRY: Final = 0x04000000  # retries exhausted
TMD2_TRC: Final = 0x0000000F  # retries

RMD1_OWN: Final = 0x80000000  # the chip's, else the driver's
RMD1_ERR: Final = 0x40000000  # FRAM | OFLO | CRC | BUFF
RMD1_FRAM: Final = 0x20000000  # framing error
RMD1_OFLO: Final = 0x10000000  # overflow
RMD1_CRC: Final = 0x08000000  # FCS is wrong
RMD1_BUFF: Final = 0x04000000  # next buffer not owned
RMD1_STP: Final = 0x02000000  # start of packet
RMD1_ENP: Final = 0x01000000  # end of packet
RMD1_BPE: Final = 0x00800000  # bus parity error
RMD1_PAM: Final = 0x00400000  # physical address matched
RMD1_LAFM: Final = 0x00200000  # logical address filter matched
RMD1_BAM: Final = 0x00100000  # broadcast
RMD1_ONES: Final = 0x0000F000  # must be ones
RMD1_BCNT: Final = 0x00000FFF  # buffer length, two's complement

RMD2_RCC: Final = 0xFF000000  # receive collision count
RMD2_RPC: Final = 0x00FF0000  # runt packet count
RMD2_MCNT: Final = 0x00000FFF  # message length with FCS
