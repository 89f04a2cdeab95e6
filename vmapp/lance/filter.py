"""The address filter: which frames of a shared wire this station hears.

Am79C970A data sheet, "Address matching": physical address (CSR12-14), broadcast, and a 64-bit hash over
multicast addresses (LADRF, CSR8-11), each with a switch in CSR15.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from machine.lance.bits import (
    CSR0_RXON,
    CSR5_MAGIC,
    CSR5_MPPLBA,
    CSR15_DRCVBC,
    CSR15_DRCVPA,
    CSR15_PROM,
    RMD1_BAM,
    RMD1_LAFM,
    RMD1_PAM,
)
from machine.lance.state import CSR, LINK_UP

__all__ = ["AddressFilter", "hash_index", "wakes_up"]

_BROADCAST: Final = b"\xff" * 6
_ADDRESSES: Final = 12  # bytes: destination and source
_REPEATED: Final = 16  # times that a magic packet has the station's address
_LADRF: Final = CSR + 8
_PADR: Final = CSR + 12
_MODE: Final = CSR + 15


def hash_index(destination: bytes) -> int:
    """The LADRF bit (0..63) of a 6-byte address: the upper six bits of the CRC register, not inverted."""
    return (crc32(destination) ^ 0xFFFFFFFF) >> 26


def wakes_up(frame: memoryview, words: memoryview) -> bool:
    """The receiver waits for a magic packet, and this is one: behind its addresses it has PADR 16 times without a gap.

    It is for PADR itself or, with MPPLBA, for a group or for all (data sheet, "Magic Packet Mode").
    """
    asleep = words[CSR] & CSR0_RXON and words[CSR + 5] & CSR5_MAGIC == CSR5_MAGIC and words[LINK_UP]
    if not asleep:
        return False
    station, destination = _physical_address(words), bytes(frame[:6])
    if station * _REPEATED not in bytes(frame[_ADDRESSES:]):
        return False
    return destination == station or bool(words[CSR + 5] & CSR5_MPPLBA and destination[0] & 1)


class AddressFilter:
    """The filter as the registers set it up.

    ``exact`` maps the destinations that need no hash to their RMD match bits. It is public so that the receive
    loop asks it first; what is not in there is decided by ``other``. ``exact`` is empty in promiscuous mode,
    where nothing is a match and everything is accepted.
    """

    __slots__ = ("_group_bits", "_ladrf", "_promiscuous", "exact")

    def __init__(self) -> None:
        self.exact: dict[bytes, int] = {}
        self._ladrf = 0
        self._promiscuous = False
        self._group_bits = 0

    def configure(self, words: memoryview, match_bits: bool) -> None:
        """Reads CSR8-15; ``match_bits``: the descriptor style has PAM, LAFM and BAM."""
        mode = words[_MODE]
        self._promiscuous = bool(mode & CSR15_PROM)
        self._ladrf = sum((words[_LADRF + i] & 0xFFFF) << 16 * i for i in range(4))
        self._group_bits = RMD1_LAFM if match_bits else 0
        self.exact = {}
        if self._promiscuous:
            return
        if not mode & CSR15_DRCVPA:
            self.exact[_physical_address(words)] = RMD1_PAM if match_bits else 0
        if not mode & CSR15_DRCVBC:
            self.exact[_BROADCAST] = RMD1_BAM if match_bits else 0

    def other(self, destination: bytes) -> int | None:
        """Match bits for a destination that ``exact`` does not hold; None: not for this station."""
        if self._promiscuous:
            return 0
        if self._ladrf and len(destination) == 6 and destination[0] & 1 and self._ladrf >> hash_index(destination) & 1:
            return self._group_bits
        return None

    def match(self, destination: bytes) -> int | None:
        """RMD match bits of an accepted destination; None: not for this station."""
        bits = self.exact.get(destination)
        return self.other(destination) if bits is None else bits


def _physical_address(words: memoryview) -> bytes:
    return b"".join((words[_PADR + i] & 0xFFFF).to_bytes(2, "little") for i in range(3))
