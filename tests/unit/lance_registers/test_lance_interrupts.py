"""Interrupt causes, their masks and enables, INEA, and the level of INTA#."""

from __future__ import annotations

import pytest

from machine.lance import bits
from machine.lance.regfile import RegisterFile

MASKABLE = [bits.CSR0_BABL, bits.CSR0_MISS, bits.CSR0_MERR, bits.CSR0_RINT, bits.CSR0_TINT, bits.CSR0_IDON]
PAIRS4 = [bits.CSR4_MFCO, bits.CSR4_RCVCCO, bits.CSR4_TXSTRT, bits.CSR4_JAB]
WITH_INEA = [bits.CSR5_EXDINT, bits.CSR5_MPINT]
ALONE = [bits.CSR5_SINT, bits.CSR5_SLPINT]
ERRORS = [bits.CSR0_BABL, bits.CSR0_CERR, bits.CSR0_MISS, bits.CSR0_MERR]


def summary(chip: RegisterFile) -> tuple[bool, int]:
    """(INTR, level of INTA#)."""
    return bool(chip.read_csr(0) & bits.CSR0_INTR), chip.irq_level


@pytest.mark.parametrize("cause", MASKABLE)
def test_csr0_cause(running: RegisterFile, cause: int) -> None:
    """A CSR0 cause drives INTA# unless CSR3 masks it or INEA is clear; lifting the mask lets it through."""
    running.write_csr(3, cause)
    running.raise_csr0(cause)
    assert summary(running) == (False, 0)
    running.write_csr(3, 0)
    assert summary(running) == (True, 1)
    running.write_csr(0, 0)
    assert summary(running) == (True, 0)
    running.write_csr(0, bits.CSR0_INEA | cause)
    assert summary(running) == (False, 0)


def test_cerr_never_interrupts(running: RegisterFile) -> None:
    """CERR sets ERR and nothing else."""
    running.raise_csr0(bits.CSR0_CERR)
    assert summary(running) == (False, 0)
    assert running.read_csr(0) & bits.CSR0_ERR


@pytest.mark.parametrize("cause", [*MASKABLE, bits.CSR0_CERR])
def test_err_sums_up(running: RegisterFile, cause: int) -> None:
    """ERR is BABL, CERR, MISS or MERR, masked or not, and goes with the last of them."""
    running.write_csr(3, bits.CSR3_MASKS)
    running.raise_csr0(cause)
    assert bool(running.read_csr(0) & bits.CSR0_ERR) == (cause in ERRORS)
    running.write_csr(0, cause)
    assert not running.read_csr(0) & bits.CSR0_ERR


@pytest.mark.parametrize("cause", PAIRS4)
def test_csr4_cause(running: RegisterFile, cause: int) -> None:
    """A CSR4 cause is masked by the bit below it."""
    running.write_csr(4, cause >> 1)
    running.raise_csr4(cause)
    assert summary(running) == (False, 0)
    running.write_csr(4, 0)
    assert summary(running) == (True, 1)
    running.write_csr(4, cause)
    assert summary(running) == (False, 0)


def test_user_interrupt(running: RegisterFile) -> None:
    """UINTCMD turns into UINT, which has no mask and stays until it is acknowledged."""
    running.write_csr(4, bits.CSR4_PAIR_MASKS | bits.CSR4_UINTCMD)
    assert running.read_csr(4) == bits.CSR4_PAIR_MASKS | bits.CSR4_UINT
    assert summary(running) == (True, 1)
    running.write_csr(0, bits.CSR0_INEA)
    assert summary(running) == (True, 1)
    running.write_csr(4, bits.CSR4_PAIR_MASKS | bits.CSR4_UINT)
    assert summary(running) == (False, 0)


@pytest.mark.parametrize("cause", WITH_INEA)
def test_csr5_cause_with_inea(running: RegisterFile, cause: int) -> None:
    """EXDINT and MPINT need the enable bit below them, and INEA."""
    running.raise_csr5(cause)
    assert summary(running) == (False, 0)
    running.write_csr(5, cause >> 1)
    assert summary(running) == (True, 1)
    running.write_csr(0, 0)
    assert summary(running) == (True, 0)


@pytest.mark.parametrize("cause", ALONE)
def test_csr5_cause_alone(chip: RegisterFile, cause: int) -> None:
    """SINT and SLPINT need the enable bit below them only: they come when STOP has cleared INEA."""
    chip.raise_csr5(cause)
    assert summary(chip) == (False, 0)
    chip.write_csr(5, cause >> 1)
    assert summary(chip) == (True, 1)
    chip.write_csr(5, cause >> 1 | cause)
    assert summary(chip) == (False, 0)


def test_transmission_start_is_bit_3(running: RegisterFile) -> None:
    """TXSTRT is 0x0008; 0x0004 is its mask. Linux's CSR4 = 0x0915 masks it."""
    running.write_csr(4, 0x0915)
    running.raise_csr4(bits.CSR4_TXSTRT)
    assert running.read_csr(4) == 0x091D
    assert summary(running) == (False, 0)


@pytest.mark.parametrize("anything", [0, -1, 0xFFFF_FFFF_FFFF, 1 << 40])
def test_engine_sets_causes_only(running: RegisterFile, anything: int) -> None:
    """raise_csr* ignores bits that are no cause: no command, mask or mode can slip in."""
    before = [running.read_csr(i) for i in (0, 4, 5)]
    running.raise_csr0(anything & ~bits.CSR0_CAUSES)
    running.raise_csr4(anything & ~bits.CSR4_CAUSES)
    running.raise_csr5(anything & ~bits.CSR5_CAUSES)
    assert [running.read_csr(i) for i in (0, 4, 5)] == before


def test_linux_interrupt_handler(running: RegisterFile) -> None:
    """pcnet32_interrupt and its NAPI poll: acknowledge, mask, poll, unmask; the line follows each step."""
    running.raise_csr0(bits.CSR0_RINT)
    csr0 = running.read_csr(0)
    assert csr0 & 0x8F00 == bits.CSR0_RINT
    running.write_csr(0, csr0 & ~0x004F)
    assert running.irq_level == 0
    running.write_csr(3, running.read_csr(3) | 0x5F00)
    running.raise_csr0(bits.CSR0_RINT)
    running.write_csr(0, 0x0048)  # a packet sent meanwhile sets INEA again: CSR3 holds the interrupt back
    assert running.irq_level == 0
    running.write_csr(3, running.read_csr(3) & 0x00FF)
    assert running.irq_level == 1
