"""What the guest's kernel does before any driver: programs the 8259 pair, finds devices on the PCI bus.

The values are those of Linux 2.2 (arch/i386/kernel/irq.c, ``init_8259A``) and of PCI configuration
mechanism #1.
"""

from __future__ import annotations

from typing import Final

from guest.cpu import Cpu, InterruptHandler
from machine.errors import SetupError
from machine.lance.pci import INTERRUPT_LINE
from machine.ports import (
    CASCADE_INPUT,
    PCI_CONFIG_ADDRESS,
    PCI_CONFIG_DATA,
    PIC_EOI,
    PIC_ICW1_INIT,
    PIC_ICW4_8086,
    PIC_MASTER_COMMAND,
    PIC_MASTER_DATA,
    PIC_MASTER_VECTOR_BASE,
    PIC_SLAVE_COMMAND,
    PIC_SLAVE_DATA,
    PIC_SLAVE_VECTOR_BASE,
    PIC_SPECIFIC_EOI,
)

__all__ = ["InterruptController", "PciFunction", "find_device"]

_SLAVE_FIRST: Final = 8
_PCI_ENABLE: Final = 1 << 31
_PCI_SLOTS: Final = 32
_COMMAND_IO_AND_MASTER: Final = 0x0005  # I/O space and bus master bits of the command register
_BAR0: Final = 0x10
_COMMAND: Final = 0x04


class InterruptController:
    """The kernel's side of the 8259 pair: five port accesses around each handler of a slave interrupt."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._mask = 0xFFFF & ~(1 << CASCADE_INPUT)
        for command, data, base, cascade in (
            (PIC_MASTER_COMMAND, PIC_MASTER_DATA, PIC_MASTER_VECTOR_BASE, 1 << CASCADE_INPUT),
            (PIC_SLAVE_COMMAND, PIC_SLAVE_DATA, PIC_SLAVE_VECTOR_BASE, CASCADE_INPUT),
        ):
            cpu.write_port(command, 1, PIC_ICW1_INIT)
            for word in (base, cascade, PIC_ICW4_8086):
                cpu.write_port(data, 1, word)
        cpu.write_port(PIC_MASTER_DATA, 1, self._mask & 0xFF)
        cpu.write_port(PIC_SLAVE_DATA, 1, self._mask >> 8)

    def request(self, irq: int, handler: InterruptHandler) -> None:
        """request_irq() for an input of the slave (8 to 15): installs the handler and unmasks the line."""
        if not _SLAVE_FIRST <= irq < 2 * _SLAVE_FIRST:
            raise SetupError(f"IRQ {irq} is not an input of the slave 8259")
        cpu = self._cpu
        bit = 1 << irq - _SLAVE_FIRST
        open_mask = (self._mask >> _SLAVE_FIRST) & ~bit
        masked = open_mask | bit
        cascade_eoi = PIC_SPECIFIC_EOI | CASCADE_INPUT

        def gate() -> None:
            # mask_and_ack_8259A, the handler, enable_8259A_irq
            cpu.read_port(PIC_SLAVE_DATA, 1)
            cpu.write_port(PIC_SLAVE_DATA, 1, masked)
            cpu.write_port(PIC_MASTER_COMMAND, 1, cascade_eoi)
            cpu.write_port(PIC_SLAVE_COMMAND, 1, PIC_EOI)
            handler()
            cpu.write_port(PIC_SLAVE_DATA, 1, open_mask)

        cpu.set_gate(PIC_SLAVE_VECTOR_BASE + irq - _SLAVE_FIRST, gate)
        self._mask &= ~(1 << irq)
        cpu.write_port(PIC_SLAVE_DATA, 1, open_mask)


class PciFunction:
    """One device's configuration space on bus 0, through ports 0xCF8 and 0xCFC."""

    def __init__(self, cpu: Cpu, slot: int) -> None:
        self._cpu = cpu
        self._slot = slot

    def read(self, offset: int) -> int:
        """The 32-bit word at ``offset``."""
        self._cpu.write_port(PCI_CONFIG_ADDRESS, 4, _PCI_ENABLE | self._slot << 11 | offset)
        return self._cpu.read_port(PCI_CONFIG_DATA, 4)

    def write(self, offset: int, value: int) -> None:
        """Writes the 32-bit word at ``offset``."""
        self._cpu.write_port(PCI_CONFIG_ADDRESS, 4, _PCI_ENABLE | self._slot << 11 | offset)
        self._cpu.write_port(PCI_CONFIG_DATA, 4, value)

    def enable(self, io_base: int) -> int:
        """Sizes BAR 0, puts it at ``io_base``, switches decoding and bus mastering on; returns the IRQ line."""
        self.write(_BAR0, 0xFFFFFFFF)
        size = (~(self.read(_BAR0) & ~3) & 0xFFFFFFFF) + 1
        self.write(_BAR0, io_base & -size)
        self.write(_COMMAND, _COMMAND_IO_AND_MASTER)
        return self.read(INTERRUPT_LINE) & 0xFF


def find_device(cpu: Cpu, vendor: int, device: int) -> PciFunction:
    """The first function on bus 0 with these IDs; SetupError if there is none."""
    for slot in range(_PCI_SLOTS):
        function = PciFunction(cpu, slot)
        if function.read(0) == vendor | device << 16:
            return function
    raise SetupError(f"the guest found no PCI device {vendor:04x}:{device:04x}")
