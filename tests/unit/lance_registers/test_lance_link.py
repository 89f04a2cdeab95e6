"""The cable as the guest sees it, and the chip as people see it."""

from __future__ import annotations

import pytest

from machine.lance import bits, state
from machine.lance.fields import Access, Field
from machine.lance.regfile import RegisterFile
from machine.lance.registers import CSRS, describe


def test_link_in_bcr4(chip: RegisterFile) -> None:
    """BCR4 is 0x80C0 with the cable in, and exactly 0x00C0, Linux's "link down", without."""
    before = chip.words[state.CONFIG_GENERATION]
    chip.set_link(False)
    assert chip.read_bcr(4) == 0x00C0
    assert chip.words[state.CONFIG_GENERATION] != before
    chip.set_link(True)
    assert chip.read_bcr(4) == 0x80C0


@pytest.mark.parametrize("reset", ["hard_reset", "soft_reset", "stop"])
@pytest.mark.parametrize("up", [True, False])
def test_resets_leave_the_cable(chip: RegisterFile, reset: str, up: bool) -> None:
    """No reset of the chip plugs a cable."""
    chip.set_link(up)
    getattr(chip, reset)()
    assert (chip.words[state.LINK_UP], chip.read_bcr(4) >> 15) == (up, up)


def test_led_shows_what_it_is_told_to(chip: RegisterFile) -> None:
    """LEDOUT of each LED register is the link where LNKSTE is set, else 0; polarity doesn't matter."""
    chip.write_bcr(2, bits.BCR2_LEDPE)
    for index in (4, 5, 6, 7):
        chip.write_bcr(index, 0x0040)
        assert chip.read_bcr(index) == 0x8040
        chip.write_bcr(index, 0xC040)
        assert chip.read_bcr(index) == 0xC040
        chip.write_bcr(index, 0x8001)
        assert chip.read_bcr(index) == 0x0001


def test_linux_blinks_the_led(chip: RegisterFile) -> None:
    """With ethtool -p, Linux flips bit 14 of BCR4 to BCR7 and puts the old values back."""
    chip.write_bcr(2, chip.read_bcr(2) | 0x1000)
    saved = [chip.read_bcr(i) for i in range(4, 8)]
    for i in range(4, 8):
        chip.write_bcr(i, chip.read_bcr(i) ^ 0x4000)
    assert [chip.read_bcr(i) for i in range(4, 8)] == [value ^ 0x4000 for value in saved]
    for i in range(4, 8):
        chip.write_bcr(i, saved[i - 4])
    assert [chip.read_bcr(i) for i in range(4, 8)] == saved


def test_explain() -> None:
    """Traces show single bits by name and wider fields by value."""
    assert CSRS[0].explain(0x01F3) == "IDON INTR INEA RXON TXON STRT INIT"
    assert CSRS[15].explain(0x8084) == "PROM PORTSEL=0x1 LOOP"
    assert CSRS[15].decode(0x0100)["PORTSEL"] == 2


@pytest.mark.parametrize(("mask", "bits_"), [(0x8000, "15"), (0x0180, "8-7"), (0xFFFF, "15-0"), (1, "0")])
def test_field_position(mask: int, bits_: str) -> None:
    """A field knows where it is."""
    field = Field("F", mask, Access.RW, "")
    assert field.bits == bits_
    assert field.extract(0xFFFF) == mask >> field.shift


def test_describe(running: RegisterFile) -> None:
    """The dump names ports, address, link, rings and decoded registers, and changes nothing."""
    running.raise_csr0(bits.CSR0_RINT)
    before = bytes(running.words)
    text = describe(running.words)
    assert bytes(running.words) == before
    assert "address   52:54:00:12:34:56  link up  INTA# 1" in text
    assert "receive   ring at 0x00001000, 32 descriptors, at 0" in text
    assert "CSR0      0x04f3  RINT INTR INEA RXON TXON STRT INIT" in text
    assert "CSR15     0x0080  PORTSEL=0x1" in text
