"""PCI configuration space: identity, BAR sizing, read-only bits, accesses of any shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.lance import state
from machine.lance.pci import CONFIG_FIELDS, PciConfig
from machine.lance.regfile import RegisterFile


def fresh() -> PciConfig:
    """A configuration space of its own."""
    config = PciConfig(memoryview(bytearray(4 * state.STATE_WORDS)).cast("I"))
    config.power_on()
    return config


def test_identity(chip: RegisterFile) -> None:
    """Vendor, device, class, revision, status, interrupt pin and latencies of the Am79C970A."""
    assert chip.config_read(0x00, 4) == 0x2000_1022
    assert chip.config_read(0x08, 4) == 0x0200_0010
    assert chip.config_read(0x06, 2) == 0x0280
    assert chip.config_read(0x3C, 4) == 0xFF06_0100


@pytest.mark.parametrize(("offset", "mask"), [(0x10, 0xFFFF_FFE1), (0x14, 0xFFFF_FFE0), (0x18, 0), (0x30, 0)])
def test_bar_sizing(chip: RegisterFile, offset: int, mask: int) -> None:
    """Ones written to a BAR come back as its size mask; there are two BARs of 32 bytes and no ROM."""
    chip.config_write(offset, 4, 0xFFFF_FFFF)
    assert chip.config_read(offset, 4) == mask


def test_io_base(chip: RegisterFile) -> None:
    """The ports are where BAR0 says while I/O decoding is on, and nowhere else."""
    chip.config_write(0x10, 4, 0x0000_1001)
    assert chip.io_base is None
    chip.config_write(0x04, 2, 0x0005)
    assert (chip.io_base, chip.bus_master) == (0x1000, True)
    chip.config_write(0x04, 2, 0x0002)
    assert (chip.io_base, chip.bus_master) == (None, False)


@pytest.mark.parametrize("base", [0, 0x1_0000, 0xFFFF_FFE0])
def test_impossible_io_base(chip: RegisterFile, base: int) -> None:
    """An unassigned BAR, or one beyond the PC's 64 Ki ports, decodes nothing."""
    chip.config_write(0x10, 4, base)
    chip.config_write(0x04, 2, 1)
    assert chip.io_base is None


@pytest.mark.parametrize("field", CONFIG_FIELDS, ids=lambda f: f.name)
def test_read_only_bits(chip: RegisterFile, field: object) -> None:
    """Writes of ones, then zeros, change the writable bits only."""
    chip.config_write(field.offset, field.width, -1)
    assert chip.config_read(field.offset, field.width) == field.reset | field.writable
    chip.config_write(field.offset, field.width, 0)
    assert chip.config_read(field.offset, field.width) == field.reset & ~field.writable


def test_status_errors_clear_on_one(chip: RegisterFile) -> None:
    """Error bits of the status register go with a 1; a neighbouring command write leaves them."""
    chip.words[state.PCI + 1] |= 0xF900 << 16
    chip.config_write(0x04, 2, 0x0007)
    assert chip.config_read(0x06, 2) == 0xFB80
    chip.config_write(0x06, 2, 0x2000)
    assert chip.config_read(0x06, 2) == 0xDB80


def test_latency_is_bcr22(chip: RegisterFile) -> None:
    """MIN_GNT and MAX_LAT follow BCR22, and a reset puts both back."""
    chip.write_bcr(22, 0x1234)
    assert chip.config_read(0x3E, 2) == 0x1234
    chip.hard_reset()
    assert (chip.read_bcr(22), chip.config_read(0x3E, 2)) == (0xFF06, 0xFF06)


def test_resets_keep_the_bars(chip: RegisterFile) -> None:
    """H_RESET and S_RESET of the chip leave what the firmware has assigned."""
    chip.config_write(0x10, 4, 0xC001)
    chip.config_write(0x04, 2, 0x0005)
    chip.hard_reset()
    chip.soft_reset()
    assert chip.io_base == 0xC000


@given(offset=st.integers(-300, 600), width=st.integers(-8, 600), value=st.integers())
def test_any_access(offset: int, width: int, value: int) -> None:
    """Any access is safe, equals the byte accesses it consists of, and stays within its width."""
    one, many = fresh(), fresh()
    one.write(offset, width, value)
    length = min(max(width, 0), 256)
    for i in range(length):
        many.write(offset + i, 1, value >> 8 * i)
    assert [one.read(i, 1) for i in range(256)] == [many.read(i, 1) for i in range(256)]
    whole = one.read(offset, width)
    assert whole == sum(one.read(offset + i, 1) << 8 * i for i in range(length))
    assert whole >> 8 * length == 0
