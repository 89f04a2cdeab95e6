"""Port accesses: widths in WIO and DWIO, the address PROM, the RESET port, hostile offsets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import ConfigError, LayoutError
from machine.lance import bits, state
from machine.lance.regfile import EFFECT_INIT, RegisterFile
from machine.lance.registers import describe

APROM = bytes.fromhex("525400123456 0000 0011 0000") + (0x201).to_bytes(2, "little") + b"WW"
WIO = {"RDP": 0x10, "RAP": 0x12, "RESET": 0x14, "BDP": 0x16}
DWIO = {"RDP": 0x10, "RAP": 0x14, "RESET": 0x18, "BDP": 0x1C}
ONES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF}


def to_dwio(chip: RegisterFile) -> None:
    """Switches the ports to 32 bits."""
    chip.write(0x10, 4, 0)


def answers(dwio: bool, offset: int, width: int) -> bool:
    """Whether this access has a meaning to the data sheet or, of the address PROM, to drivers."""
    if offset < 0x10:
        return offset % width == 0 and (width < 4 or dwio)
    return offset in DWIO.values() and width == 4 if dwio else offset in WIO.values() and width == 2


def takes(dwio: bool, offset: int, width: int) -> bool:
    """Whether a write is taken: by the PROM in its mode's width only, and while APROMWE."""
    return answers(dwio, offset, width) and offset >= 0x10


@pytest.mark.parametrize("dwio", [False, True])
def test_width_matrix(chip: RegisterFile, dwio: bool) -> None:
    """Exactly the accesses that the I/O mode defines are answered; all others read ones and write nothing."""
    if dwio:
        to_dwio(chip)
    for offset, width in itertools.product(range(32), (1, 2, 4)):
        before = bytes(chip.words)
        meant = answers(dwio, offset, width)
        assert (chip.read(offset, width) != ONES[width]) == meant, (offset, width)
        if not takes(dwio, offset, width) and not (offset == 0x10 and width == 4):
            assert chip.write(offset, width, 0) == 0
            assert bytes(chip.words) == before


@pytest.mark.parametrize(("ports", "width"), [(WIO, 2), (DWIO, 4)])
def test_indirect_access(chip: RegisterFile, ports: dict[str, int], width: int) -> None:
    """RAP selects what RDP (CSR) and BDP (BCR) mean, in both I/O modes."""
    if width == 4:
        to_dwio(chip)
    chip.write(ports["RAP"], width, 88)
    assert chip.read(ports["RAP"], width) == 88
    assert chip.read(ports["RDP"], width) & 0xFFFF == 0x1003
    chip.write(ports["RAP"], width, 20)
    chip.write(ports["BDP"], width, 2)
    assert chip.read(ports["BDP"], width) == 0x0302
    chip.write(ports["RAP"], width, 0)
    assert chip.write(ports["RDP"], width, 1) == EFFECT_INIT


def test_rap_has_seven_bits(chip: RegisterFile) -> None:
    """RAP is masked when written and when used, also if the word was stored without a trap."""
    chip.write(0x12, 2, 0xFFD8)
    assert chip.rap == 0x58
    chip.words[state.RAP] = 0xFFFF_FFD8
    assert (chip.rap, chip.read(0x12, 2), chip.read(0x10, 2)) == (0x58, 0x58, 0x1003)
    chip.rap = -1
    assert chip.rap == 0x7F


def test_switch_to_dwio(chip: RegisterFile) -> None:
    """A 32-bit write to RDP sets DWIO and writes no CSR; STOP and S_RESET leave it, H_RESET clears it."""
    assert chip.write(0x10, 4, 0x0003) == 0
    assert chip.read_csr(0) == 0x0004
    assert chip.read_bcr(18) & bits.BCR18_DWIO
    chip.stop()
    chip.read(0x18, 4)
    assert chip.read_bcr(18) & bits.BCR18_DWIO
    chip.hard_reset()
    assert chip.read_bcr(18) == 0x9001


def test_dwio_is_no_plain_bit(chip: RegisterFile) -> None:
    """Writing BCR18 neither sets nor clears DWIO."""
    chip.write_bcr(18, 0xFFFF)
    assert not chip.read_bcr(18) & bits.BCR18_DWIO
    to_dwio(chip)
    chip.write_bcr(18, 0)
    assert chip.read_bcr(18) & bits.BCR18_DWIO


def test_chip_id_is_whole_in_dwio(chip: RegisterFile) -> None:
    """CSR88 read in 32 bits is the whole chip ID, by which BSD's drivers know a 970A; in 16 bits, its lower half."""
    assert chip.read_csr(88) == 0x1003
    to_dwio(chip)
    chip.write(0x14, 4, 88)
    assert chip.read(0x10, 4) == 0x0262_1003
    assert chip.read(0x10, 4) >> 12 & 0xFFFF == 0x2621


@pytest.mark.parametrize("index", [i for i in range(128) if i != 88])
def test_upper_half_is_zero_in_dwio(chip: RegisterFile, index: int) -> None:
    """Every other register is one of 16 bits in DWIO as well, CSRs and BCRs."""
    to_dwio(chip)
    chip.write(0x14, 4, index)
    assert chip.read(0x10, 4) == chip.read_csr(index)
    assert chip.read(0x1C, 4) == chip.read_bcr(index)


@pytest.mark.parametrize("dwio", [False, True])
@pytest.mark.parametrize("width", [1, 2])
def test_aprom_by_bytes_and_words(chip: RegisterFile, width: int, dwio: bool) -> None:
    """Address, hardware ID 0x11, checksum and "WW", in either mode: Linux, OpenBSD and NetBSD read bytes in DWIO."""
    if dwio:
        to_dwio(chip)
    read = b"".join(chip.read(i, width).to_bytes(width, "little") for i in range(0, 16, width))
    assert read == APROM


def test_aprom_in_dwio(chip: RegisterFile) -> None:
    """The same content by double words."""
    to_dwio(chip)
    assert b"".join(chip.read(i, 4).to_bytes(4, "little") for i in range(0, 16, 4)) == APROM


def test_aprom_write_enable(chip: RegisterFile) -> None:
    """The APROM takes writes only while BCR2.APROMWE; a reset then loads the new address."""
    chip.write(5, 1, 0x77)
    assert chip.read(5, 1) == 0x56
    chip.write_bcr(2, bits.BCR2_APROMWE)
    chip.write(5, 1, 0x1FF77)
    chip.write(0, 2, 0x1102)
    assert bytes(chip.read(i, 1) for i in range(6)) == bytes.fromhex("021100123477")
    chip.soft_reset()
    assert [chip.read_csr(i) for i in (12, 13, 14)] == [0x1102, 0x1200, 0x7734]


def test_aprom_takes_its_modes_width(chip: RegisterFile) -> None:
    """In DWIO the APROM takes double words; bytes, which it answers, change nothing."""
    to_dwio(chip)
    chip.write_bcr(2, bits.BCR2_APROMWE)
    chip.write(0, 1, 0x77)
    chip.write(0, 2, 0x7777)
    assert chip.read(0, 1) == 0x52
    chip.write(0, 4, 0x4433_2211)
    assert [chip.read(i, 1) for i in range(4)] == [0x11, 0x22, 0x33, 0x44]


def test_openbsd_attach(chip: RegisterFile) -> None:
    """pcn(4): resets in both widths, not knowing the mode, then DWIO, the address byte by byte, and the variant."""
    for _ in range(2):  # the second time the chip is in DWIO already
        chip.read(0x14, 2)
        chip.read(0x18, 4)
        chip.write(0x10, 4, 0)
        assert bytes(chip.read(i, 1) for i in range(6)) == APROM[:6]
        chip.write(0x14, 4, 88)
        assert chip.read(0x10, 4) >> 12 & 0xFFFF == 0x2621
        chip.write(0x14, 4, 20)
        chip.write(0x1C, 4, 3)
        assert chip.read(0x1C, 4) == 0x0303
        chip.write(0x14, 4, 0)
        assert chip.read(0x10, 4) == 0x0004


def test_freebsd_attach(chip: RegisterFile) -> None:
    """pcn(4) finds WIO by BCR23 and 24, which are the subsystem's zeros; DWIO by what they then read: ones."""
    for number in (23, 24):
        chip.write(0x12, 2, number)
        assert chip.read(0x16, 2) == 0
    to_dwio(chip)
    for number in (23, 24):
        chip.write(0x12, 2, number)
        assert chip.read(0x16, 2) == 0xFFFF
    ids = []
    for number in (89, 88):
        chip.write(0x14, 4, number)
        ids.append(chip.read(0x10, 4))
    assert (ids[0] << 16 | ids[1]) >> 12 & 0xFFFF == 0x2621
    assert b"".join(chip.read(i, 4).to_bytes(4, "little") for i in (0, 4))[:6] == APROM[:6]


def test_reset_port(running: RegisterFile) -> None:
    """IN from RESET stops the chip, clears RAP and the masks, keeps SWSTYLE, and reloads the address."""
    running.write_csr(0, 4)
    running.write_bcr(20, 2)
    running.write_csr(12, 0)
    running.write_csr(3, 0x5F00)
    running.rap = 88
    assert running.read(0x14, 2) == 0
    assert (running.rap, running.read_csr(0), running.read_csr(3)) == (0, 0x0004, 0)
    assert (running.swstyle, running.read_csr(12)) == (2, 0x5452)


def test_write_to_reset_port(running: RegisterFile) -> None:
    """An OUT to RESET does nothing."""
    before = bytes(running.words)
    assert running.write(0x14, 2, 0xFFFF) == 0
    assert bytes(running.words) == before


def test_linux_probe(chip: RegisterFile) -> None:
    """pcnet32 finds WIO: reset, CSR0 exactly 4, RAP reads 88 back."""
    chip.read(0x14, 2)
    chip.write(0x12, 2, 0)
    assert chip.read(0x10, 2) == 4
    chip.write(0x12, 2, 88)
    assert chip.read(0x12, 2) == 88


@pytest.mark.parametrize("offset", [-1, -(1 << 70), 17, 32, 255, 1 << 70])
@pytest.mark.parametrize("width", [-4, 0, 1, 2, 3, 4, 8, 1 << 40])
@pytest.mark.parametrize("dwio", [False, True])
def test_accesses_that_hit_nothing(chip: RegisterFile, offset: int, width: int, dwio: bool) -> None:
    """Any offset and width is safe: ones are read, nothing is written."""
    if dwio:
        to_dwio(chip)
    before = bytes(chip.words)
    assert chip.read(offset, width) == ONES.get(width, 0xFFFF_FFFF)
    assert chip.write(offset, width, -1) == 0
    assert bytes(chip.words) == before


@pytest.mark.parametrize("mac", [b"", b"12345", b"1234567"])
def test_bad_station_address(chip: RegisterFile, mac: bytes) -> None:
    """A station address of another length is refused."""
    with pytest.raises(ConfigError, match="6 bytes"):
        chip.power_on(mac)


def test_state_of_another_size() -> None:
    """Words of another format or number are refused."""
    with pytest.raises(LayoutError, match="320 words"):
        RegisterFile(memoryview(bytearray(4 * 319)).cast("I"))
    with pytest.raises(LayoutError):
        RegisterFile(memoryview(bytearray(4 * 320)))


def test_two_views_are_one_chip(chip: RegisterFile) -> None:
    """Two instances over the same words, as in vmm and vmapp, see each other's changes."""
    other = RegisterFile(chip.words)
    chip.write(0x12, 2, 3)
    other.write(0x10, 2, 0x5F00)
    assert chip.read(0x10, 2) == 0x5F00


@given(st.binary(min_size=4 * state.STATE_WORDS, max_size=4 * state.STATE_WORDS), st.data())
def test_any_state_is_safe(content: bytes, data: st.DataObject) -> None:
    """Whatever the shared words hold, no access raises, and every answer fits its width."""
    chip = RegisterFile(memoryview(bytearray(content)).cast("I"))
    offsets, values = st.integers(0, 31), st.integers(0, 0xFFFF_FFFF)
    for _ in range(8):
        offset, width = data.draw(offsets), data.draw(st.sampled_from([1, 2, 4]))
        assert 0 <= chip.write(offset, width, data.draw(values)) <= 3
        assert 0 <= chip.read(offset, width) <= ONES[width]
    chip.config_write(0, 64, data.draw(values))
    chip.update_irq()
    assert chip.irq_level in (0, 1)
    assert describe(chip.words)
