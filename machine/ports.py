"""Well-known I/O ports and interrupt wiring of the virtual PC: what its devices decode and its drivers program.

Port numbers are those of the PC/AT and of Intel's 82371SB (PIIX3); command bytes are from the Intel 8259A
data sheet; the interrupt vectors are the ones that Linux 2.2 programs (``init_8259A`` and ``init_IRQ``).
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CASCADE_INPUT",
    "ELCR_AT_BOOT",
    "ELCR_MASTER",
    "ELCR_SLAVE",
    "LANCE_DEFAULT_BASE",
    "LANCE_IRQ",
    "LANCE_PORTS",
    "PCI_CONFIG_ADDRESS",
    "PCI_CONFIG_DATA",
    "PIC_EOI",
    "PIC_ICW1_INIT",
    "PIC_ICW4_8086",
    "PIC_MASTER_COMMAND",
    "PIC_MASTER_DATA",
    "PIC_MASTER_VECTOR_BASE",
    "PIC_SLAVE_COMMAND",
    "PIC_SLAVE_DATA",
    "PIC_SLAVE_VECTOR_BASE",
    "PIC_SPECIFIC_EOI",
]

# The two 8259A. Command: ICW1, OCW2, OCW3; reads IRR or ISR. Data: ICW2-4, OCW1; reads IMR.
PIC_MASTER_COMMAND: Final = 0x20
PIC_MASTER_DATA: Final = 0x21
PIC_SLAVE_COMMAND: Final = 0xA0
PIC_SLAVE_DATA: Final = 0xA1
ELCR_MASTER: Final = 0x4D0  # edge/level control, a bit per input, 1 = level: IRQ 0-7
ELCR_SLAVE: Final = 0x4D1  # the same for IRQ 8-15

# PCI configuration mechanism #1
PCI_CONFIG_ADDRESS: Final = 0xCF8
PCI_CONFIG_DATA: Final = 0xCFC

LANCE_DEFAULT_BASE: Final = 0x1000  # where the BIOS would have put BAR 0
LANCE_PORTS: Final = 32  # 16 bytes of APROM, then RDP, RAP, RESET, BDP

CASCADE_INPUT: Final = 2  # the master's input that the slave's INT drives
LANCE_IRQ: Final = 11  # INTA#, routed to input 3 of the slave
ELCR_AT_BOOT: Final = 1 << LANCE_IRQ  # a BIOS makes the PCI interrupts level-triggered; both registers, IRQ n = bit n

PIC_MASTER_VECTOR_BASE: Final = 0x20  # IRQ 0-7 -> vectors 0x20-0x27
PIC_SLAVE_VECTOR_BASE: Final = 0x28  # IRQ 8-15 -> vectors 0x28-0x2F

PIC_ICW1_INIT: Final = 0x11  # start of initialization, ICW4 follows, cascaded
PIC_ICW4_8086: Final = 0x01  # 8086 vectors, normal EOI
PIC_EOI: Final = 0x20  # OCW2: non-specific EOI
PIC_SPECIFIC_EOI: Final = 0x60  # OCW2: specific EOI; or in the input, 0-7
