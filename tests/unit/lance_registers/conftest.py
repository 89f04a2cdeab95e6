"""A Lance after power-on, over state words of its own."""

from __future__ import annotations

import pytest

from machine.lance import state
from machine.lance.regfile import RegisterFile

MAC = bytes.fromhex("525400123456")


@pytest.fixture
def words() -> memoryview:
    """State words, all zero."""
    return memoryview(bytearray(4 * state.STATE_WORDS)).cast("I")


@pytest.fixture
def chip(words: memoryview) -> RegisterFile:
    """Just powered on."""
    chip = RegisterFile(words)
    chip.power_on(MAC)
    return chip


@pytest.fixture
def running(chip: RegisterFile) -> RegisterFile:
    """Initialised and started, interrupts enabled, IDON acknowledged."""
    chip.write_csr(0, 0x0001)
    chip.finish_init(0x0080, MAC, bytes(8), 0x1000, 0x2000, 5, 4)
    chip.write_csr(0, 0x0142)
    return chip
