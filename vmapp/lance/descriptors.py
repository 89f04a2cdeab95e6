"""How the four software styles (BCR20) lay out a ring descriptor, as word numbers and masks.

The upper byte of the *status* word (OWN, ERR, ..., STP, ENP) and the transmit error bits of the *result* word
sit at the same bit positions in every style, so that the masks of ``machine.lance.bits`` serve all of them.
Am79C970A data sheet, "Descriptor rings" and "Alternative descriptor formats".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from machine.lance.bits import TMD1_DEF, TMD1_ERR, TMD1_LTINT, TMD1_ONE, TMD1_OWN

__all__ = ["LAYOUTS", "TMD_KEPT", "DescriptorLayout"]

TMD_KEPT: Final = 0xFFFFFFFF & ~(TMD1_OWN | TMD1_ERR | TMD1_LTINT | TMD1_ONE | TMD1_DEF)  # handed back as found


@dataclass(frozen=True, slots=True)
class DescriptorLayout:
    """One software style: which 32-bit little-endian word of a descriptor holds what."""

    words: int  # 32-bit words per descriptor
    address: int  # word with the buffer address
    status: int  # word with OWN; written last
    count: int  # word with BCNT in its low 12 bits
    result: int  # word with MCNT, or the transmit error bits
    address_mask: int = 0xFFFFFFFF  # what of the address word is address
    rmd_kept: int = 0x0000FFFF  # bits of a RMD's status word that are handed back as found
    result_kept: int = 0  # bits of the result word that are handed back as found
    mcnt_shift: int = 0  # where MCNT starts in the result word
    match_bits: bool = True  # RMD has PAM, LAFM and BAM: all do but those of 16 bits
    no_fcs: bool = False  # TMD bit 29 is NO_FCS instead of ADD_FCS


LAYOUTS: Final[tuple[DescriptorLayout, ...]] = (
    DescriptorLayout(  # 0: LANCE, PCnet-ISA; 16-bit halves, 24-bit addresses
        words=2,
        address=0,
        status=0,
        count=1,
        result=1,
        address_mask=0x00FFFFFF,
        rmd_kept=0x00FFFFFF,
        result_kept=0x0000FFFF,
        mcnt_shift=16,
        match_bits=False,
    ),
    DescriptorLayout(words=4, address=0, status=1, count=1, result=2, no_fcs=True),  # 1: ILACC
    DescriptorLayout(words=4, address=0, status=1, count=1, result=2),  # 2: PCnet-PCI
    DescriptorLayout(words=4, address=2, status=1, count=1, result=0),  # 3: PCnet-PCI, outer words swapped
)
