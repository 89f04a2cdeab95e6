"""Which frames the card hears, changed while it works: pcnet32_set_multicast_list(), access by access.

On a chip that can be suspended (this one can, CSR5.SPND) today's pcnet32 suspends it, writes CSR15 and LADRF, and
lets it go on: rings and whatever is in them stay. Linux 2.2's driver stopped the chip and began anew instead, which
threw away what had not been sent yet; both of our drivers suspend.
"""

from __future__ import annotations

from typing import Final

from guest.drivers.pcnet import Pcnet
from machine.errors import SetupError
from machine.lance.bits import CSR5_SPND, CSR15_PROM

__all__ = ["set_receive_mode"]

_LADRF: Final = 8  # CSR8 to CSR11, lowest bits first
_PADR: Final = 12  # CSR12 to CSR14
_MODE: Final = 15
_POLLS_FOR_SPND: Final = 100


def set_receive_mode(chip: Pcnet, mac: bytes, promiscuous: bool, ladrf: int) -> None:
    """Gives a chip that is up a station address, a multicast filter of 64 bits, and promiscuous mode or not.

    Interrupts must be off: the handler writes RAP, too. SetupError if the chip cannot be suspended. PADR is written
    only if it changes. pcnet32 changes it between close and open alone, but then a kernel with pcnet32 refuses a new
    MAC while the interface is up (no IFF_LIVE_ADDR_CHANGE); a TAP's does not.
    """
    _suspend(chip)
    if mac != chip.mac:
        for i in range(3):
            chip.write_csr(_PADR + i, int.from_bytes(mac[2 * i : 2 * i + 2], "little"))
        chip.mac = mac
    mode = chip.read_csr(_MODE)
    if promiscuous:  # the filter is not asked; it is written when the mode ends
        chip.write_csr(_MODE, mode | CSR15_PROM)
    else:
        chip.write_csr(_MODE, mode & ~CSR15_PROM)
        for i in range(4):
            chip.write_csr(_LADRF + i, ladrf >> 16 * i & 0xFFFF)
    chip.write_csr(5, chip.read_csr(5) & ~CSR5_SPND)


def _suspend(chip: Pcnet) -> None:
    """pcnet32_suspend(): asks, then polls until the chip has finished the frame that it is at."""
    chip.write_csr(5, chip.read_csr(5) | CSR5_SPND)
    for _ in range(_POLLS_FOR_SPND):
        if chip.read_csr(5) & CSR5_SPND:
            return
    raise SetupError("the Lance did not suspend itself (SPND)")
