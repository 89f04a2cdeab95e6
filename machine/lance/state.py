"""Where the Lance keeps its state: one array of 32-bit words in shared memory, seen by vmm and vmapp.

Only the world that runs touches it (``machine.world``), so that no word needs an owner of its own. The
registers' meaning is in ``machine.lance.registers``; their behaviour in ``machine.lance.regfile``.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "APROM",
    "BCR",
    "BCR_COUNT",
    "CONFIG_GENERATION",
    "CSR",
    "CSR_COUNT",
    "IRQ_LEVEL",
    "LINK_UP",
    "PCI",
    "PCI_WORDS",
    "RAP",
    "STATE_WORDS",
    "TX_IN_FRAME",
]

CSR: Final = 0  # first of the control and status registers, one word each (16 bits used)
CSR_COUNT: Final = 128
BCR: Final = 128  # first of the bus configuration registers, one word each
BCR_COUNT: Final = 64
RAP: Final = 192  # register address port, 0..127
IRQ_LEVEL: Final = 193  # 1 while the chip drives INTA#, else 0
LINK_UP: Final = 194  # 1 while the cable is plugged in, else 0
CONFIG_GENERATION: Final = 195  # grows whenever anything that the engine caches may have changed
TX_IN_FRAME: Final = 196  # 1 between the first and the last buffer of a chained frame
APROM: Final = 200  # 16 bytes in 4 words, little-endian
PCI: Final = 256  # 256 bytes of PCI configuration space in 64 words
PCI_WORDS: Final = 64
STATE_WORDS: Final = 320
