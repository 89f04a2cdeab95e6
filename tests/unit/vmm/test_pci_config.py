"""PCI configuration mechanism #1: the address latch, the data window, enumeration, hostile accesses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import ConfigError, PortOverlapError
from machine.portmap import PortMap
from machine.ports import PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA
from vmm.pci import SLOTS, HostBridge, PciBus

ENABLE = 0x8000_0000
ONES = 0xFFFF_FFFF


class Card:
    """256 bytes of configuration space, all of them writable."""

    def __init__(self) -> None:
        self.space = bytearray(256)
        self.space[0:4] = bytes((0x22, 0x10, 0x00, 0x20))

    def config_read(self, offset: int, width: int) -> int:
        assert 0 <= offset <= 256 - width
        return int.from_bytes(self.space[offset : offset + width], "little")

    def config_write(self, offset: int, width: int, value: int) -> None:
        assert 0 <= offset <= 256 - width
        self.space[offset : offset + width] = value.to_bytes(width, "little")


class Machine:
    """A port map with a PCI bus that has one card in slot 3."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.card = Card()
        self.ports = PortMap()
        self.bus = PciBus(self.written.append)
        self.bus.attach(3, self.card)
        self.bus.claim_on(self.ports)

    def read(self, slot: int, register: int, *, bus: int = 0, function: int = 0) -> int:
        self.select(slot, register, bus=bus, function=function)
        return self.ports.read(PCI_CONFIG_DATA, 4)

    def select(self, slot: int, register: int, *, bus: int = 0, function: int = 0) -> None:
        self.ports.write(PCI_CONFIG_ADDRESS, 4, ENABLE | bus << 16 | slot << 11 | function << 8 | register)


@pytest.fixture
def pc() -> Machine:
    """A fresh machine per test."""
    return Machine()


def test_enumeration_finds_bridge_and_card(pc: Machine):
    """Reading every slot's first word finds the host bridge, the card and nothing else."""
    found = {slot: word for slot in range(SLOTS) if (word := pc.read(slot, 0)) != ONES}
    assert found == {0: 0x1237_8086, 3: 0x2000_1022}
    assert pc.read(0, 8) >> 16 == 0x0600


def test_linux_finds_mechanism_1(pc: Machine):
    """The steps of Linux 2.2's pci_check_direct: a byte to 0xCFB goes unnoticed, the latch holds a dword."""
    pc.ports.write(0xCFB, 1, 0x01)
    before = pc.ports.read(PCI_CONFIG_ADDRESS, 4)
    pc.ports.write(PCI_CONFIG_ADDRESS, 4, ENABLE)
    assert before == 0
    assert pc.ports.read(PCI_CONFIG_ADDRESS, 4) == ENABLE


@pytest.mark.parametrize(("offset", "width"), [(0, 1), (3, 1), (0, 2), (1, 2), (2, 2)])
def test_narrow_accesses_do_not_touch_the_latch(pc: Machine, offset: int, width: int):
    """Byte and word accesses to CONFIG_ADDRESS read ones and write nothing."""
    pc.select(3, 0x10)
    pc.ports.write(PCI_CONFIG_ADDRESS + offset, width, 0)
    assert pc.ports.read(PCI_CONFIG_ADDRESS + offset, width) == (1 << 8 * width) - 1
    assert pc.ports.read(PCI_CONFIG_ADDRESS, 4) == ENABLE | 3 << 11 | 0x10


def test_reserved_latch_bits_read_zero(pc: Machine):
    """Bits 30-24 and 1-0 of CONFIG_ADDRESS do not exist."""
    pc.ports.write(PCI_CONFIG_ADDRESS, 4, ONES)
    assert pc.ports.read(PCI_CONFIG_ADDRESS, 4) == 0x80FF_FFFC


@pytest.mark.parametrize(("slot", "bus", "function"), [(3, 1, 0), (3, 255, 0), (3, 0, 1), (4, 0, 0), (0, 0, 7)])
def test_what_is_not_there_reads_ones(pc: Machine, slot: int, bus: int, function: int):
    """Other buses, other functions and empty slots answer with ones, and writes there go nowhere."""
    assert pc.read(slot, 0, bus=bus, function=function) == ONES
    pc.ports.write(PCI_CONFIG_DATA, 4, 0)
    assert pc.ports.read(PCI_CONFIG_DATA, 2) == 0xFFFF
    assert pc.written == []
    assert pc.read(3, 0) == 0x2000_1022


def test_closed_window_reads_ones(pc: Machine):
    """Without the enable bit CONFIG_DATA is nobody's port."""
    pc.ports.write(PCI_CONFIG_ADDRESS, 4, 3 << 11)
    assert pc.ports.read(PCI_CONFIG_DATA, 4) == ONES
    pc.ports.write(PCI_CONFIG_DATA, 4, 0)
    assert pc.written == []


def test_data_window_takes_any_width(pc: Machine):
    """Bytes and words at 0xCFC-0xCFF are the bytes and words of the selected register."""
    pc.select(3, 0x10)
    pc.ports.write(PCI_CONFIG_DATA, 4, 0xAABBCCDD)
    pc.ports.write(PCI_CONFIG_DATA + 1, 1, 0x11)
    pc.ports.write(PCI_CONFIG_DATA + 2, 2, 0x3322)
    assert pc.ports.read(PCI_CONFIG_DATA, 4) == 0x332211DD
    assert pc.ports.read(PCI_CONFIG_DATA + 3, 1) == 0x33
    assert pc.ports.read(PCI_CONFIG_DATA + 1, 2) == 0x2211
    assert pc.ports.read(PCI_CONFIG_DATA + 2, 4) == ONES  # straddles the window's end


def test_last_register_stays_inside_the_space(pc: Machine):
    """Register 0xFC is the last one; no access gets past byte 255."""
    pc.select(3, 0xFF)
    pc.ports.write(PCI_CONFIG_DATA + 3, 1, 0x5A)
    assert pc.card.space[255] == 0x5A


def test_writes_are_announced(pc: Machine):
    """Each write that reached a device calls on_config_write with its slot, after the device has it."""
    pc.select(3, 0x10)
    pc.ports.write(PCI_CONFIG_DATA, 4, 0x1001)
    pc.select(0, 4)
    pc.ports.write(PCI_CONFIG_DATA, 2, 0)
    assert pc.written == [3, 0]


def test_host_bridge_is_read_only(pc: Machine):
    """Writes to the host bridge change nothing."""
    pc.select(0, 0)
    pc.ports.write(PCI_CONFIG_DATA, 4, 0)
    assert pc.ports.read(PCI_CONFIG_DATA, 4) == 0x1237_8086
    assert HostBridge().config_read(2, 2) == 0x1237


@pytest.mark.parametrize("slot", [0, 3, -1, SLOTS])
def test_slots_are_given_once(pc: Machine, slot: int):
    """Slots that are taken, the bridge's included, and slots that do not exist are refused."""
    with pytest.raises(ConfigError, match=f"PCI slot {slot} is not free"):
        pc.bus.attach(slot, Card())


def test_claiming_twice_is_refused(pc: Machine):
    """The configuration ports have one owner like any others."""
    with pytest.raises(PortOverlapError, match="PCI configuration address"):
        PciBus().claim_on(pc.ports)


@given(
    st.lists(
        st.tuples(st.integers(0xCF6, 0xD01), st.sampled_from([1, 2, 4]), st.integers(0, (1 << 64) - 1), st.booleans())
    )
)
def test_random_accesses_never_raise(accesses: list[tuple[int, int, int, bool]]):
    """Whatever is written and read, values fit their width and the card is asked for its own bytes only."""
    pc = Machine()
    for port, width, value, is_write in accesses:
        if is_write:
            assert pc.ports.write(port, width, value) == 0
        assert 0 <= pc.ports.read(port, width) < 1 << 8 * width
