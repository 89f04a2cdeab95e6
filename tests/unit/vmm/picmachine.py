"""A machine with nothing but an 8259A pair on its ports, for the tests of the pair; and the commands they send."""

from __future__ import annotations

from typing import Final

from machine.portmap import PortMap
from vmm.pic import PicPair

__all__ = [
    "AEOI",
    "EOI",
    "POLL",
    "READ_IRR",
    "READ_ISR",
    "ROTATE_ON_AEOI",
    "ROTATE_ON_EOI",
    "ROTATE_ON_SPECIFIC_EOI",
    "SET_PRIORITY",
    "SFNM",
    "SPECIAL_MASK_OFF",
    "SPECIAL_MASK_ON",
    "SPECIFIC_EOI",
    "Machine",
]

# OCW2
EOI: Final = 0x20
SPECIFIC_EOI: Final = 0x60
ROTATE_ON_EOI: Final = 0xA0
ROTATE_ON_AEOI: Final = 0x80
SET_PRIORITY: Final = 0xC0
ROTATE_ON_SPECIFIC_EOI: Final = 0xE0

# OCW3
READ_IRR: Final = 0x0A
READ_ISR: Final = 0x0B
POLL: Final = 0x0C
SPECIAL_MASK_ON: Final = 0x68
SPECIAL_MASK_OFF: Final = 0x48

# ICW4
AEOI: Final = 0x02
SFNM: Final = 0x10


class Machine:
    """A pair on a port map, initialized as Linux 2.2 does it, with nothing masked."""

    def __init__(self, *, master_icw4: int = 0, slave_icw4: int = 0) -> None:
        self.pic = PicPair()
        self.map = PortMap()
        self.pic.claim_on(self.map)
        for value, port in ((0x11, 0x20), (0x20, 0x21), (0x04, 0x21), (0x01 | master_icw4, 0x21)):
            self.outb(value, port)
        for value, port in ((0x11, 0xA0), (0x28, 0xA1), (0x02, 0xA1), (0x01 | slave_icw4, 0xA1)):
            self.outb(value, port)

    def outb(self, value: int, port: int) -> None:
        assert self.map.write(port, 1, value) == 0

    def inb(self, port: int) -> int:
        return self.map.read(port, 1)

    def up(self, *irqs: int) -> None:
        for irq in irqs:
            self.pic.set_line(irq, 1)

    def down(self, *irqs: int) -> None:
        for irq in irqs:
            self.pic.set_line(irq, 0)

    def take(self) -> int:
        """The IRQ that the CPU gets now; the output must have asked for it."""
        assert self.pic.output
        return self.pic.acknowledge() - 0x20

    def in_service(self) -> int:
        self.outb(READ_ISR, 0x20)
        self.outb(READ_ISR, 0xA0)
        return self.inb(0x20) | self.inb(0xA0) << 8

    def requested(self) -> int:
        self.outb(READ_IRR, 0x20)
        self.outb(READ_IRR, 0xA0)
        return self.inb(0x20) | self.inb(0xA0) << 8
