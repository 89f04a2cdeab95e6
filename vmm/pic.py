"""The virtual interrupt controller: two 8259A, the slave's INT on the master's input 2, and their ELCR.

The vmm sets lines, looks at ``output`` and, when the guest's CPU takes the interrupt, calls ``acknowledge``.
The guest programs the chips through three port claims. All of it happens in the vmm, without a world switch.

**The five accesses.** Linux 2.2 (arch/i386/kernel/irq.c) makes five per interrupt of the slave. Its
``mask_and_ack_8259A`` runs before the handler, ``enable_8259A_irq`` after it::

    inb(0xA1)           dummy read of the IMR
    outb(mask, 0xA1)    OCW1: masks the line
    outb(0x62, 0x20)    OCW2: specific EOI for the cascade input
    outb(0x20, 0xA0)    OCW2: non-specific EOI for the slave
    outb(mask, 0xA1)    OCW1: unmasks the line

Paper, section 4.1: all five were handled in the VMM; one has the semantics of memory, and the other four
recomputed the state of the whole PIC. Here each is decided within one method of ``Pic8259``, by a few
integer operations on one chip; the other chip is looked at only if the first one's INT output changes.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from machine.errors import ConfigError
from machine.portmap import PortMap
from machine.ports import CASCADE_INPUT, ELCR_AT_BOOT, ELCR_MASTER, PIC_MASTER_COMMAND, PIC_SLAVE_COMMAND
from vmm.i8259 import Pic8259

__all__ = ["Elcr", "PicPair"]

_FLOATING_BUS: Final = 0xFF  # the vector when no slave answers the master's cascade lines
_INPUTS: Final = 16

# ISA wires the timer, keyboard, cascade, clock and coprocessor inputs for edges; their ELCR bits read 0.
_ELCR_WRITABLE: Final = (0xF8, 0xDE)


class Elcr:
    """The edge/level control registers (82371SB), a handler of two ports: one register per chip, 1 = level."""

    __slots__ = ("_chips",)

    def __init__(self, master: Pic8259, slave: Pic8259) -> None:
        self._chips = (master, slave)

    def read(self, offset: int, width: int) -> int:
        """IN: as last written, bits that cannot be set reading 0."""
        value = 0
        for i in range(width):
            value |= self._chips[(offset + i) & 1].level_triggered << 8 * i
        return value

    def write(self, offset: int, width: int, value: int) -> int:
        """OUT: bits of inputs that ISA wires for edges are ignored. Always finished: answers 0."""
        for i in range(width):
            which = (offset + i) & 1
            self._chips[which].set_level_triggered(value >> 8 * i & _ELCR_WRITABLE[which])
        return 0


class PicPair:
    """IRQ 0-7 on the master, IRQ 8-15 on the slave; IRQ 2 is the cascade and has no line of its own.

    ``output`` is the master's INT: whether an interrupt may be delivered; it is for reading only. ``master``,
    ``slave`` and ``elcr`` are the port handlers.
    """

    __slots__ = ("elcr", "master", "output", "slave")

    def __init__(self) -> None:
        self.output = False
        self.master = Pic8259(self._drive_output, master=True)
        self.slave = Pic8259(partial(self.master.set_line, CASCADE_INPUT), master=False)
        self.elcr = Elcr(self.master, self.slave)
        self.elcr.write(0, 2, ELCR_AT_BOOT)

    def _drive_output(self, level: int) -> None:
        self.output = level != 0

    def claim_on(self, ports: PortMap) -> None:
        """Claims the ports of both chips and of the ELCR; raises PortOverlapError if one is taken."""
        ports.claim(PIC_MASTER_COMMAND, 2, "8259 master", self.master)
        ports.claim(PIC_SLAVE_COMMAND, 2, "8259 slave", self.slave)
        ports.claim(ELCR_MASTER, 2, "ELCR", self.elcr)

    def set_line(self, irq: int, level: int) -> None:
        """A device drives its line ``irq`` low (0) or high (anything else); shared lines are the caller's to OR.

        Raises ConfigError for a line that does not exist.
        """
        if not 0 <= irq < _INPUTS or irq == CASCADE_INPUT:
            raise ConfigError(f"there is no IRQ line {irq}: devices have 0-15 without {CASCADE_INPUT}")
        if irq < 8:
            self.master.set_line(irq, level)
        else:
            self.slave.set_line(irq - 8, level)

    def acknowledge(self) -> int:
        """The CPU's INTA cycle: the vector (0-255) of the interrupt that is now in service.

        Call it when ``output`` is true. Otherwise it answers as the chips do, with a spurious IRQ 7; and with
        IRQ 15, the cascade input in service, if it was the slave's request that went away.
        """
        master = self.master
        level = master.acknowledge()
        if not master.icw3 >> level & 1:
            return master.vector_base | level
        slave = self.slave
        if slave.icw3 & 7 != level:
            return _FLOATING_BUS
        return slave.vector_base | slave.acknowledge()

    def snapshot(self) -> dict[str, bool | dict[str, int]]:
        """Both chips' registers and the output, for status displays."""
        return {"output": self.output, "master": self.master.snapshot(), "slave": self.slave.snapshot()}
