"""The 8259A pair: masks, triggering, spurious interrupts, polling, Linux's handler, the pair on the port map."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import ports
from machine.errors import ConfigError, PortOverlapError
from machine.ring import KIND_IN, KIND_OUT
from tests.unit.vmm.picmachine import EOI, POLL, READ_IRR, SPECIAL_MASK_OFF, SPECIAL_MASK_ON, Machine
from vmm.dispatch import BindsPorts
from vmm.pic import PicPair


@pytest.fixture
def pc() -> Machine:
    """A fresh machine per test."""
    return Machine()


# -- masks ---------------------------------------------------------------------------------------------


def test_mask_holds_the_request(pc: Machine):
    """A masked line's request waits in the IRR and is delivered when it is unmasked."""
    pc.outb(0x10, 0x21)
    pc.up(4)
    assert not pc.pic.output
    assert pc.requested() == 0x10
    pc.outb(0x00, 0x21)
    assert pc.take() == 4


def test_masking_the_cascade_silences_the_slave(pc: Machine):
    """The master's input 2 masked: no IRQ 8-15 gets through."""
    pc.outb(0x04, 0x21)
    pc.up(11)
    assert not pc.pic.output
    pc.outb(0x00, 0x21)
    assert pc.take() == 11


def test_special_mask_mode(pc: Machine):
    """In SMM a service that masks itself lets lower priorities in; a non-specific EOI passes over it."""
    pc.up(3)
    pc.take()
    pc.up(6)
    pc.outb(0x08, 0x21)
    assert not pc.pic.output
    pc.outb(SPECIAL_MASK_ON, 0x20)
    assert pc.take() == 6
    pc.outb(EOI, 0x20)
    assert pc.in_service() == 1 << 3
    pc.outb(EOI, 0x20)
    assert pc.in_service() == 1 << 3
    pc.outb(SPECIAL_MASK_OFF, 0x20)
    pc.outb(EOI, 0x20)
    assert pc.in_service() == 0


# -- edge and level ------------------------------------------------------------------------------------


def test_edge_requests_once(pc: Machine):
    """A line that stays up after its service does not request again until it has been down."""
    pc.up(5)
    pc.take()
    pc.outb(EOI, 0x20)
    pc.up(5)
    assert not pc.pic.output
    pc.down(5)
    pc.up(5)
    assert pc.take() == 5


def test_level_requests_while_up(pc: Machine):
    """PCI's IRQ 11 comes back after EOI for as long as the device holds its line."""
    for _ in range(3):
        pc.up(11)
        assert pc.take() == 11
        assert not pc.pic.output
        pc.outb(EOI, 0xA0)
        pc.outb(EOI, 0x20)
    pc.down(11)
    assert not pc.pic.output


def test_elcr(pc: Machine):
    """The ELCR holds what may be level-triggered, reads back, and takes effect on lines that are up already."""
    assert pc.map.read(ports.ELCR_MASTER, 2) == ports.ELCR_AT_BOOT
    pc.map.write(ports.ELCR_MASTER, 2, 0xFFFF)
    assert pc.map.read(ports.ELCR_MASTER, 1) == 0xF8
    assert pc.map.read(ports.ELCR_SLAVE, 1) == 0xDE
    pc.outb(0, ports.ELCR_MASTER)
    pc.up(5)
    pc.take()
    pc.outb(EOI, 0x20)
    assert not pc.pic.output
    pc.outb(0x20, ports.ELCR_MASTER)
    assert pc.take() == 5


# -- spurious interrupts -------------------------------------------------------------------------------


def test_spurious_irq7(pc: Machine):
    """A request that goes away before INTA: vector of IRQ 7, nothing in service."""
    pc.up(4)
    pc.down(4)
    assert not pc.pic.output
    assert pc.pic.acknowledge() == 0x27
    assert pc.in_service() == 0
    assert pc.pic.master.spurious == 1


def test_spurious_irq15(pc: Machine):
    """A slave's request that goes away between the two INTA pulses: IRQ 15, only the cascade in service."""
    pc.up(11)
    assert pc.pic.master.acknowledge() == ports.CASCADE_INPUT
    pc.down(11)
    assert pc.pic.slave.acknowledge() == 7
    assert pc.in_service() == 1 << ports.CASCADE_INPUT
    assert pc.pic.slave.spurious == 1


# -- polling -------------------------------------------------------------------------------------------


def test_poll(pc: Machine):
    """A poll command turns the next read of either port into INTA: bit 7 set, and the input; or 7 if there is none."""
    pc.outb(POLL, 0x20)
    assert pc.inb(0x20) == 0x07
    pc.up(4, 11)
    for read_from, expected in ((0x20, 0x82), (0xA1, 0x83)):
        pc.outb(POLL, read_from & 0xA0)
        assert pc.inb(read_from) == expected
    assert not pc.pic.output
    assert pc.inb(0xA1) == 0x00
    assert pc.in_service() == 1 << 11 | 1 << 2
    pc.down(11)
    pc.outb(EOI, 0xA0)
    pc.outb(EOI, 0x20)
    assert pc.take() == 4


def test_poll_taken_back(pc: Machine):
    """A later OCW3 without the poll bit makes the next read an ordinary one."""
    pc.up(4)
    pc.outb(POLL, 0x20)
    pc.outb(READ_IRR, 0x20)
    assert pc.inb(0x20) == 1 << 4
    assert pc.take() == 4


# -- Linux's handler -----------------------------------------------------------------------------------


def test_the_five_accesses(pc: Machine):
    """mask_and_ack_8259A and enable_8259A_irq of Linux 2.2: no interrupt in between, the next one right after."""
    pc.outb(0xFB, 0x21)
    pc.outb(0xF7, 0xA1)
    pc.up(11)
    assert pc.take() == 11
    assert pc.inb(0xA1) == 0xF7
    for value, port in ((0xFF, 0xA1), (0x62, 0x20), (0x20, 0xA0)):
        pc.outb(value, port)
        assert not pc.pic.output
    assert pc.in_service() == 0
    pc.outb(0xF7, 0xA1)
    assert pc.take() == 11  # the device still holds its line


def test_the_five_accesses_bound(pc: Machine):
    """The same through bound accesses, with the line dropped by the handler: quiet afterwards."""
    pic = pc.pic
    assert isinstance(pic.master, BindsPorts)
    read_mask = pic.slave.bind(0, KIND_IN, 1, 1)
    write_mask = pic.slave.bind(0, KIND_OUT, 1, 1)
    end_master = pic.master.bind(0, KIND_OUT, 0, 1)
    end_slave = pic.slave.bind(0, KIND_OUT, 0, 1)
    for _ in range(3):
        pc.up(11)
        assert pc.take() == 11
        assert read_mask(0) == 0
        write_mask(0xFF)
        end_master(0x62)
        end_slave(0x20)
        pc.down(11)
        write_mask(0x00)
        assert not pic.output


# -- the pair as a device ------------------------------------------------------------------------------


@pytest.mark.parametrize("irq", [-1, 2, 16, 1 << 40])
def test_lines_that_do_not_exist(pc: Machine, irq: int):
    """There are sixteen inputs, and the cascade is not a device's to drive."""
    with pytest.raises(ConfigError, match="there is no IRQ line"):
        pc.pic.set_line(irq, 1)


def test_ports_are_claimed_once(pc: Machine):
    """A second pair on the same map is refused."""
    with pytest.raises(PortOverlapError, match="8259 master"):
        PicPair().claim_on(pc.map)


def test_word_access_is_two_bytes(pc: Machine):
    """A 16-bit access reaches A0 low with its low byte, then A0 high with the other."""
    pc.map.write(0x20, 2, 0x55_0B)
    assert pc.map.read(0x20, 2) == 0x55_00
    assert pc.pic.master.bind(0, KIND_IN, 0, 2)(0) == 0x55_00
    pc.pic.master.bind(0, KIND_OUT, 0, 2)(0xAA_0A)
    assert pc.inb(0x21) == 0xAA


def test_snapshot_is_plain_data(pc: Machine):
    """Status needs names and integers only, per chip."""
    pc.up(11)
    snapshot = pc.pic.snapshot()
    slave = snapshot["slave"]
    assert snapshot["output"] is True
    assert isinstance(slave, dict)
    assert (slave["irr"], slave["vector_base"], slave["next_icw"]) == (0x08, 0x28, 0)
    assert all(type(value) is int for value in slave.values())


_PORTS = st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1])
_ACCESS = st.tuples(_PORTS, st.sampled_from([1, 2, 4]), st.integers(0, (1 << 64) - 1), st.integers(0, 4))


@given(st.lists(_ACCESS, max_size=60))
def test_random_port_accesses_never_raise(accesses: list[tuple[int, int, int, int]]):
    """Any values at any ports, initialized or not, lines moving and interrupts taken: answers stay in range."""
    pc = Machine()
    for port, width, value, what in accesses:
        if what < 3:
            assert pc.map.write(port, width, value) == 0
        elif what == 3:
            assert 0 <= pc.map.read(port, width) < 1 << 8 * width
        else:
            pc.pic.set_line(value % 2 + 10, value >> 1 & 1)
            assert 0 <= pc.pic.acknowledge() <= 0xFF
