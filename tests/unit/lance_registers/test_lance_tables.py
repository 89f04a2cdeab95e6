"""The register tables agree with themselves, with the register file built from them, and with the document."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.lance import bits, state
from machine.lance.fields import Access, Field, Register
from machine.lance.plans import word_of
from machine.lance.regfile import RegisterFile
from machine.lance.registers import BCRS, CSRS, markdown

ALL = [*CSRS.values(), *BCRS.values()]
STATES = ("running", "suspended", "stopped")
ALLOWED = {
    Access.RW: STATES,
    Access.SPND: ("suspended", "stopped"),
    Access.STOP: ("stopped",),
    Access.RO: (),
}
# Their writes do more than store: the tests of CSR0 and of SWSTYLE, and those of LEDOUT, cover them.
OWN_TESTS = ("status", "style")
PLAIN = [(r, f) for r in ALL if r.behaviour not in OWN_TESTS for f in r.fields if f.name != "LEDOUT"]
STORED = [(r, f) for r, f in PLAIN if f.access in ALLOWED]
CLEARED = [(r, f) for r in ALL for f in r.fields if f.access is Access.W1C]


def named(value: object) -> str | None:
    """Test ids."""
    return value.name if isinstance(value, Register | Field) else None


def read(chip: RegisterFile, register: Register) -> int:
    """Through RDP or BDP."""
    return (chip.read_csr if register.space == "CSR" else chip.read_bcr)(register.index)


def write(chip: RegisterFile, register: Register, value: int) -> None:
    """Through RDP or BDP."""
    (chip.write_csr if register.space == "CSR" else chip.write_bcr)(register.index, value)


def enter(chip: RegisterFile, mode: str) -> None:
    """Opens the gated registers, then brings the chip into that mode."""
    chip.write_csr(4, chip.read_csr(4) | bits.CSR4_EN124)
    chip.write_bcr(2, chip.read_bcr(2) | bits.BCR2_LEDPE)
    if mode != "stopped":
        chip.write_csr(0, bits.CSR0_STRT)
    if mode == "suspended":
        chip.write_csr(5, bits.CSR5_SPND)


@pytest.mark.parametrize("register", ALL, ids=named)
def test_fields_do_not_overlap(register: Register) -> None:
    """Each bit of a register belongs to one field at most, and reset values only use named bits."""
    taken = 0
    for field in register.fields:
        assert not taken & field.mask, field.name
        taken |= field.mask
    assert not (register.reset | register.stop) & ~taken
    assert taken <= 0xFFFF


@pytest.mark.parametrize("register", [r for r in ALL if not r.note], ids=named)
def test_power_on_value(chip: RegisterFile, register: Register) -> None:
    """Each register reads its H_RESET value after power-on; the link LED shows that the cable is in."""
    expected = register.reset | (0x8000 if register.name == "BCR4" else 0)
    assert read(chip, register) == expected


def test_power_on_values_of_the_chip(chip: RegisterFile) -> None:
    """The values that drivers look at, spelled out once, independently of the table."""
    csrs = {0: 0x0004, 3: 0, 4: 0x0115, 5: 0, 15: 0, 58: 0x0200, 80: 0x1410, 88: 0x1003, 89: 0x0262, 100: 0x0200}
    bcrs = {0: 5, 1: 5, 2: 2, 4: 0x80C0, 5: 0x84, 6: 0x88, 7: 0x90, 9: 0, 18: 0x9001, 19: 2, 20: 0x0200, 22: 0xFF06}
    assert {i: chip.read_csr(i) for i in csrs} == csrs
    assert {i: chip.read_bcr(i) for i in bcrs} == bcrs
    assert [chip.read_csr(i) for i in (12, 13, 14)] == [0x5452, 0x1200, 0x5634]


def test_linux_recognises_the_chip(chip: RegisterFile) -> None:
    """pcnet32_probe1 finds version 0x2621, the Am79C970A, in CSR88 and CSR89."""
    chip_id = chip.read_csr(88) | chip.read_csr(89) << 16
    assert chip_id & 0xFFF == 0x003
    assert chip_id >> 12 & 0xFFFF == 0x2621


@pytest.mark.parametrize("mode", STATES)
@pytest.mark.parametrize(("register", "field"), STORED, ids=named)
def test_access_mode(chip: RegisterFile, register: Register, field: Field, mode: str) -> None:
    """A field takes a written value exactly in the states that its access mode names."""
    enter(chip, mode)
    before = field.extract(read(chip, register))
    write(chip, register, field.mask)
    ones = field.extract(read(chip, register))
    write(chip, register, 0)
    zeros = field.extract(read(chip, register))
    if mode in ALLOWED[field.access]:
        assert (ones, zeros) == (field.extract(0xFFFF), 0)
    else:
        assert (ones, zeros) == (before, before)


@pytest.mark.parametrize(("register", "field"), CLEARED, ids=named)
def test_write_one_to_clear(chip: RegisterFile, register: Register, field: Field) -> None:
    """A cause survives a write of 0 and goes with a write of 1, without touching the other causes."""
    causes = register.mask(Access.W1C)
    word = word_of(register.space, register.index)
    chip.words[word] |= causes
    write(chip, register, 0)
    assert read(chip, register) & causes == causes
    write(chip, register, field.mask)
    assert read(chip, register) & causes == causes & ~field.mask


@pytest.mark.parametrize("index", [i for i in range(state.CSR_COUNT) if i not in CSRS])
def test_reserved_csr(chip: RegisterFile, index: int) -> None:
    """A reserved CSR reads 0 whatever was written, and disturbs no other register."""
    before = bytes(chip.words)
    assert chip.write_csr(index, 0xFFFF) == 0
    assert chip.read_csr(index) == 0
    assert bytes(chip.words) == before


@pytest.mark.parametrize("index", [i for i in range(-1, 130) if i not in BCRS])
def test_reserved_bcr(chip: RegisterFile, index: int) -> None:
    """A BCR that the chip doesn't have (BCR32-34 of later chips among them) reads 0 and ignores writes."""
    before = bytes(chip.words)
    assert chip.write_bcr(index, 0xFFFF) == 0
    assert chip.read_bcr(index) == 0
    assert bytes(chip.words) == before


@pytest.mark.parametrize("register", [r for r in ALL if r.behaviour != "status" and r.alias is None], ids=named)
@pytest.mark.parametrize("kind", ["s_reset", "stop"])
def test_what_softer_resets_restore(chip: RegisterFile, register: Register, kind: str) -> None:
    """S_RESET and STOP put back the bits that the table names, and leave all others."""
    word = word_of(register.space, register.index)
    chip.words[word] = marked = ~register.reset & 0xFFFF
    (chip.soft_reset if kind == "s_reset" else chip.stop)()
    affected = getattr(register, kind)
    if register.name in ("CSR12", "CSR13", "CSR14") and kind == "s_reset":
        affected = 0
        marked = {12: 0x5452, 13: 0x1200, 14: 0x5634}[register.index]
    assert chip.words[word] == marked & ~affected | register.reset & affected


@pytest.mark.parametrize("register", [r for r in ALL if r.cached and r.behaviour != "style"], ids=named)
def test_engines_hear_of_what_they_cache(chip: RegisterFile, register: Register) -> None:
    """Changing a cached bit moves CONFIG_GENERATION; writing the same value again doesn't."""
    enter(chip, "stopped")
    field = next(f for f in register.fields if f.mask & register.cached and f.access is not Access.RO)
    before = chip.words[state.CONFIG_GENERATION]
    write(chip, register, read(chip, register) ^ field.mask)
    after = chip.words[state.CONFIG_GENERATION]
    assert after != before
    write(chip, register, read(chip, register))
    assert chip.words[state.CONFIG_GENERATION] == after


def test_generation_wraps(chip: RegisterFile) -> None:
    """The 2**32nd change does not raise."""
    chip.words[state.CONFIG_GENERATION] = 0xFFFF_FFFF
    chip.stop()
    assert chip.words[state.CONFIG_GENERATION] == 0


@pytest.mark.parametrize(
    ("style", "reads"), [(0, 0x0200), (1, 0x0101), (2, 0x0302), (3, 0x0303), (4, 0x0200), (255, 0x0200)]
)
@pytest.mark.parametrize("through", ["BCR20", "CSR58"])
def test_software_style(chip: RegisterFile, through: str, style: int, reads: int) -> None:
    """SSIZE32 and CSRPCNET follow SWSTYLE, under both names of the register; unknown styles become 0."""
    write(chip, BCRS[20] if through == "BCR20" else CSRS[58], 0xFB00 | style)
    assert chip.read_bcr(20) == chip.read_csr(58) == reads
    assert chip.swstyle == reads & 0xFF


@pytest.mark.parametrize("mode", STATES)
def test_software_style_is_guarded(chip: RegisterFile, mode: str) -> None:
    """A running chip does not change the layout of its structures."""
    enter(chip, mode)
    chip.write_bcr(20, 2)
    assert chip.swstyle == (0 if mode == "running" else 2)


def test_init_address_has_two_names(chip: RegisterFile) -> None:
    """CSR16 and CSR17 are CSR1 and CSR2."""
    chip.write_csr(16, 0x1234)
    chip.write_csr(2, 0x5678)
    assert (chip.read_csr(1), chip.read_csr(17)) == (0x1234, 0x5678)


def test_gates(chip: RegisterFile) -> None:
    """CSR124 needs CSR4.EN124, the LED registers need BCR2.LEDPE."""
    chip.write_csr(124, 0xFFFF)
    chip.write_bcr(5, 0)
    assert (chip.read_csr(124), chip.read_bcr(5)) == (0, 0x0084)
    enter(chip, "stopped")
    chip.write_csr(124, 0xFFFF)
    chip.write_bcr(5, 0)
    assert (chip.read_csr(124), chip.read_bcr(5)) == (0x0018, 0)


def test_document_is_current() -> None:
    """docs/registers.md is what the tables generate."""
    document = Path(__file__).parents[3] / "docs" / "registers.md"
    assert document.read_text() == markdown(), "run: python -m machine.lance.registers > docs/registers.md"
