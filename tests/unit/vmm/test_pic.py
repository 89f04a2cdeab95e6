"""The 8259A pair: initialization, priorities, nesting, rotation, the kinds of EOI."""

from __future__ import annotations

import pytest

from machine import ports
from tests.unit.vmm.picmachine import (
    AEOI,
    EOI,
    READ_ISR,
    ROTATE_ON_AEOI,
    ROTATE_ON_EOI,
    ROTATE_ON_SPECIFIC_EOI,
    SET_PRIORITY,
    SFNM,
    SPECIAL_MASK_ON,
    SPECIFIC_EOI,
    Machine,
)
from vmm.pic import PicPair


@pytest.fixture
def pc() -> Machine:
    """A fresh machine per test."""
    return Machine()


# -- initialization ------------------------------------------------------------------------------------


def test_linux_vectors(pc: Machine):
    """After ICW 0x11/0x20/0x04/0x01 and 0x11/0x28/0x02/0x01, IRQ n has vector 0x20 + n on both chips."""
    for irq in [n for n in range(16) if n != ports.CASCADE_INPUT]:
        pc.up(irq)
        assert pc.pic.output
        assert pc.pic.acknowledge() == 0x20 + irq
        pc.down(irq)
        pc.outb(EOI, 0xA0)
        pc.outb(EOI, 0x20)
        assert not pc.pic.output


def test_nothing_gets_through_before_initialization():
    """An unprogrammed pair has every input masked."""
    pic = PicPair()
    pic.set_line(1, 1)
    pic.set_line(11, 1)
    assert not pic.output
    assert pic.master.read_data() == pic.slave.read_data() == 0xFF


def test_nothing_gets_through_during_initialization(pc: Machine):
    """From ICW1 to the last ICW the output stays low, although ICW1 clears the IMR."""
    pc.outb(0x11, 0x20)
    pc.up(1)
    for value in (0x20, 0x04):
        assert pc.inb(0x21) == 0
        assert not pc.pic.output
        pc.outb(value, 0x21)
    assert not pc.pic.output
    pc.outb(0x01, 0x21)
    assert pc.take() == 1


def test_icw1_clears_the_chip(pc: Machine):
    """ICW1 clears ISR, IMR, priorities and modes; an edge must come anew, a level need not."""
    pc.up(1, 11)
    pc.take()
    pc.outb(SET_PRIORITY | 3, 0x20)
    pc.outb(SPECIAL_MASK_ON, 0x20)
    pc.outb(READ_ISR, 0x20)
    pc.outb(0xF0, 0x21)
    pc.outb(0x11, 0x20)
    pc.outb(0x11, 0xA0)
    master = pc.pic.snapshot()["master"]
    assert isinstance(master, dict)
    assert not any(master[name] for name in ("isr", "imr", "top_priority", "special_mask", "irr"))
    assert pc.inb(0xA0) == 0x08


def test_icw1_without_icw4_and_icw3(pc: Machine):
    """Single mode skips ICW3, IC4 = 0 skips ICW4; the next write to A0 high is OCW1."""
    pc.outb(0x12, 0x20)
    pc.outb(0x45, 0x21)
    pc.outb(0xF9, 0x21)
    assert pc.inb(0x21) == 0xF9
    pc.up(1)
    assert pc.pic.acknowledge() == 0x41  # the low bits of ICW2 are not part of the vector
    pc.down(1)
    pc.outb(EOI, 0x20)
    pc.up(11)
    assert pc.pic.acknowledge() == 0x42  # without a cascade the slave is a device like any other


def test_cascade_without_an_answer(pc: Machine):
    """A slave with another identity than its input leaves the bus floating: vector 0xff."""
    for value, port in ((0x11, 0xA0), (0x28, 0xA1), (0x05, 0xA1), (0x01, 0xA1)):
        pc.outb(value, port)
    pc.up(11)
    assert pc.pic.acknowledge() == 0xFF


# -- priority ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        ((7, 0, 3), (0, 3, 7)),
        ((15, 8, 1, 3), (1, 8, 15, 3)),  # the slave's eight come between IRQ 1 and IRQ 3
        ((11, 10, 9, 4), (9, 10, 11, 4)),
        ((14, 0), (0, 14)),
    ],
)
def test_fixed_priority(pc: Machine, waiting: tuple[int, ...], order: tuple[int, ...]):
    """Requests that wait together are served in the order 0, 1, 8-15, 3-7."""
    pc.up(*waiting)
    for irq in order:
        assert pc.take() == irq
        pc.down(irq)
        if irq >= 8:
            pc.outb(EOI, 0xA0)
        pc.outb(EOI, 0x20)
    assert not pc.pic.output


@pytest.mark.parametrize(
    ("serving", "arriving", "nests"),
    [
        (4, 3, True),
        (4, 4, False),
        (4, 5, False),
        (4, 11, True),
        (11, 1, True),
        (11, 3, False),
        (11, 9, False),
        (0, 1, False),
    ],
)
def test_nesting(pc: Machine, serving: int, arriving: int, nests: bool):
    """Only a higher priority interrupts a service; within the slave nothing does, unless fully nested specially."""
    pc.up(serving)
    pc.take()
    pc.down(serving)
    pc.up(arriving)
    assert pc.pic.output == nests


def test_special_fully_nested_mode():
    """With SFNM in the master, a higher request of the slave interrupts a lower one of the slave's; IRQ 3 doesn't."""
    pc = Machine(master_icw4=SFNM)
    pc.up(11)
    assert pc.take() == 11
    pc.up(3)
    assert not pc.pic.output
    pc.up(9)
    assert pc.take() == 9
    pc.up(10)
    assert not pc.pic.output


def test_special_fully_nested_mode_is_the_masters():
    """A slave with SFNM does not let an input interrupt its own service: ICW3 is its identity there."""
    pc = Machine(master_icw4=SFNM, slave_icw4=SFNM)
    pc.up(9)
    assert pc.take() == 9
    pc.down(9)
    pc.up(9)
    assert not pc.pic.output


def test_special_fully_nested_level():
    """An input that ICW3 gives to a slave and that is level-triggered comes back within its own service."""
    pc = Machine()
    for value, port in ((0x11, 0x20), (0x20, 0x21), (0x20, 0x21), (0x01 | SFNM, 0x21), (0x20, ports.ELCR_MASTER)):
        pc.outb(value, port)
    pc.up(5)
    assert pc.pic.acknowledge() == 0xFF  # nobody is behind that input
    assert pc.pic.output


@pytest.mark.parametrize("lowest", range(8))
def test_set_priority(pc: Machine, lowest: int):
    """OCW2 "set priority" makes an input the lowest and the one after it the highest."""
    pc.outb(0xFF, 0xA1)
    pc.outb(SET_PRIORITY | lowest, 0x20)
    pc.up(0, 1, 3, 4, 5, 6, 7)
    expected = [n for n in ((lowest + 1 + i) % 8 for i in range(8)) if n != ports.CASCADE_INPUT]
    served = []
    for _ in expected:
        served.append(pc.take())
        pc.outb(SPECIFIC_EOI | served[-1], 0x20)
    assert served == expected


@pytest.mark.parametrize("command", [ROTATE_ON_EOI, ROTATE_ON_SPECIFIC_EOI | 4])
def test_rotation_on_eoi(pc: Machine, command: int):
    """Rotation on EOI makes the input just served the lowest: equal devices take turns."""
    pc.up(4, 5)
    assert pc.take() == 4
    pc.outb(command, 0x20)
    pc.down(4)
    pc.up(4)
    assert pc.take() == 5
    assert pc.in_service() == 1 << 5


def test_rotation_with_nothing_in_service(pc: Machine):
    """A rotating non-specific EOI with an empty ISR changes nothing."""
    pc.outb(SET_PRIORITY | 4, 0x20)
    pc.outb(ROTATE_ON_EOI, 0x20)
    pc.up(7, 0, 5)
    assert pc.take() == 5


# -- end of interrupt ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "left"),
    [(EOI, 1 << 4), (SPECIFIC_EOI | 4, 1 << 1), (SPECIFIC_EOI | 6, 1 << 4 | 1 << 1), (0x40, 1 << 4 | 1 << 1)],
)
def test_eoi_kinds(pc: Machine, command: int, left: int):
    """With IRQ 1 inside IRQ 4: non-specific ends the higher, specific the one it names, the no-op none."""
    for irq in (4, 1):
        pc.up(irq)
        pc.take()
    pc.outb(command, 0x20)
    assert pc.in_service() == left


def test_automatic_eoi():
    """In AEOI mode nothing stays in service, and the next request follows at once, the slave's included."""
    pc = Machine(master_icw4=AEOI, slave_icw4=AEOI)
    pc.up(4, 5, 9, 14)
    assert [pc.take() for _ in range(4)] == [9, 14, 4, 5]
    assert not pc.pic.output
    assert pc.in_service() == 0


def test_rotation_in_automatic_eoi_mode():
    """Each service rotates while the mode is on, and no longer once it is off."""
    pc = Machine(master_icw4=AEOI)
    pc.outb(ROTATE_ON_AEOI, 0x20)
    pc.up(0, 1)
    assert pc.take() == 0
    pc.down(0)
    pc.up(0)
    assert pc.take() == 1
    pc.outb(0x00, 0x20)
    assert pc.take() == 0
    pc.down(0, 1)
    pc.up(1, 0)
    assert pc.take() == 0  # IRQ 1 is the lowest since it was served; IRQ 0 has not rotated
