"""CSR0: the interplay of STOP, INIT, STRT and TDMD, and what the host world is asked to do."""

from __future__ import annotations

import pytest

from machine.lance import bits, state
from machine.lance.regfile import EFFECT_INIT, EFFECT_TRANSMIT, RegisterFile

MAC = bytes.fromhex("525400123456")
MAC = bytes.fromhex("525400123456")
STOP, INIT, STRT, TDMD, INEA = 0x0004, 0x0001, 0x0002, 0x0008, 0x0040
DPOLL = bits.CSR4_DPOLL


def initialise(chip: RegisterFile, mode: int = 0x0080) -> None:
    """What the engine does after EFFECT_INIT."""
    chip.finish_init(mode, MAC, bytes(8), 0x1000, 0x2000, 5, 4)


def test_init_alone(chip: RegisterFile) -> None:
    """INIT asks for the init block; once read, CSR0 is 0x0181 and INTA# waits for INEA."""
    assert chip.write_csr(0, INIT) == EFFECT_INIT
    initialise(chip)
    assert chip.read_csr(0) == 0x0181
    assert chip.irq_level == 0


def test_linux_open(chip: RegisterFile) -> None:
    """pcnet32_open: INIT, IDON polled, then STRT|INEA; IDON is the first interrupt."""
    chip.write_csr(4, 0x0915)
    chip.write_csr(0, INIT)
    initialise(chip)
    assert chip.write_csr(0, STRT | INEA) == EFFECT_TRANSMIT
    assert chip.read_csr(0) == 0x01F3
    assert chip.irq_level == 1


@pytest.mark.parametrize(("mode", "on"), [(0, 0x30), (1, 0x10), (2, 0x20), (3, 0)])
def test_init_and_start_together(chip: RegisterFile, mode: int, on: int) -> None:
    """INIT|STRT initialises first: DRX and DTX of the init block decide what is turned on."""
    assert chip.write_csr(0, INIT | STRT) == EFFECT_INIT | EFFECT_TRANSMIT
    assert chip.read_csr(0) & 0x30 == 0
    initialise(chip, mode)
    assert chip.read_csr(0) == 0x0183 | on


@pytest.mark.parametrize(("mode", "on"), [(0, 0x30), (1, 0x10), (2, 0x20), (3, 0)])
def test_start_obeys_mode(chip: RegisterFile, mode: int, on: int) -> None:
    """STRT sets RXON unless DRX, TXON unless DTX, and asks for transmission only with TXON."""
    chip.write_csr(15, mode)
    assert chip.write_csr(0, STRT) == (EFFECT_TRANSMIT if on & 0x10 else 0)
    assert chip.read_csr(0) == STRT | on


def test_start_without_polling(chip: RegisterFile) -> None:
    """With DPOLL, STRT leaves the transmit ring alone until TDMD."""
    chip.write_csr(4, DPOLL)
    assert chip.write_csr(0, STRT) == 0
    assert chip.write_csr(0, TDMD) == EFFECT_TRANSMIT
    assert chip.read_csr(0) & TDMD


@pytest.mark.parametrize("others", [0, INIT, STRT, INIT | STRT | TDMD, 0xFFFB])
def test_stop_wins(running: RegisterFile, others: int) -> None:
    """STOP, together with anything, leaves CSR0 at exactly 0x0004 and the interrupt line down."""
    running.raise_csr0(0x7F00)
    assert running.irq_level == 1
    assert running.write_csr(0, STOP | others) == 0
    assert running.read_csr(0) == 0x0004
    assert running.irq_level == 0


def test_stop_keeps_the_rings(running: RegisterFile) -> None:
    """After STOP, STRT alone goes on with the same rings: the loopback test of pcnet32 relies on it."""
    rings = (24, 25, 30, 31, 72, 74, 76, 78, 15, 8, 12, 3)
    before = [running.read_csr(i) for i in rings]
    running.write_csr(0, STOP)
    assert [running.read_csr(i) for i in rings] == before
    assert running.write_csr(0, STRT) == EFFECT_TRANSMIT
    assert running.read_csr(0) == 0x0032


def test_commands_count_once(running: RegisterFile) -> None:
    """INIT and STRT do nothing while they are set already."""
    assert running.write_csr(0, INIT | STRT) == 0
    running.words[state.CSR] &= ~bits.CSR0_TXON  # as after an underflow
    assert running.write_csr(0, STRT) == 0
    assert not running.read_csr(0) & bits.CSR0_TXON


def test_writing_zero_starts_nothing(chip: RegisterFile) -> None:
    """A stopped chip stays stopped when CSR0 is written with acknowledgements only."""
    assert chip.write_csr(0, 0x7F00) == 0
    assert chip.read_csr(0) == STOP


def test_transmit_demand(running: RegisterFile) -> None:
    """INEA|TDMD, the one write of every packet sent, asks for transmission and reads back."""
    assert running.write_csr(0, INEA | TDMD) == EFFECT_TRANSMIT
    assert running.read_csr(0) == 0x007B


def test_transmit_demand_without_transmitter(chip: RegisterFile) -> None:
    """TDMD without TXON is dropped: stopped, initialised only, or DTX."""
    assert chip.write_csr(0, TDMD) == 0
    assert chip.read_csr(0) == STOP
    chip.write_csr(0, INIT)
    initialise(chip, bits.CSR15_DTX)
    assert chip.write_csr(0, STRT | TDMD) == 0
    assert not chip.read_csr(0) & TDMD


@pytest.mark.parametrize(("mode", "demand"), [(0, TDMD), (bits.CSR15_DTX, 0)])
def test_init_start_and_demand_together(chip: RegisterFile, mode: int, demand: int) -> None:
    """A TDMD written with INIT|STRT waits for the init block, and goes if that turns the transmitter off."""
    chip.write_csr(4, DPOLL)
    assert chip.write_csr(0, INIT | STRT | TDMD) == EFFECT_INIT | EFFECT_TRANSMIT
    initialise(chip, mode)
    assert chip.read_csr(0) & TDMD == demand


def test_suspend(running: RegisterFile) -> None:
    """SPND reads back at once; a TDMD waits for its end."""
    assert running.write_csr(5, bits.CSR5_SPND) == 0
    assert running.read_csr(5) == bits.CSR5_SPND
    assert running.write_csr(0, TDMD) == 0
    assert running.read_csr(0) & TDMD
    assert running.write_csr(5, 0) == EFFECT_TRANSMIT


@pytest.mark.parametrize(("dpoll", "effect"), [(0, EFFECT_TRANSMIT), (DPOLL, 0)])
def test_resume_without_demand(running: RegisterFile, dpoll: int, effect: int) -> None:
    """When SPND ends without a TDMD, only a polling chip looks at the ring."""
    running.write_csr(4, dpoll)
    running.write_csr(5, bits.CSR5_SPND)
    assert running.write_csr(5, 0) == effect


def test_stop_ends_suspension(running: RegisterFile) -> None:
    """STOP clears SPND, so that a restart is not held up."""
    running.write_csr(5, bits.CSR5_SPND)
    running.write_csr(0, STOP)
    assert running.read_csr(5) == 0


def test_linux_set_rx_mode(running: RegisterFile) -> None:
    """pcnet32 suspends, writes CSR15 and CSR8-11, resumes: they stick, and not without SPND."""
    running.write_csr(15, 0x8000)
    assert running.read_csr(15) == 0x0080
    running.write_csr(5, running.read_csr(5) | bits.CSR5_SPND)
    for i in range(8, 12):
        running.write_csr(i, 0xFFFF)
    running.write_csr(15, 0x8080)
    running.write_csr(5, 0)
    assert [running.read_csr(i) for i in (8, 9, 10, 11, 15)] == [0xFFFF] * 4 + [0x8080]


def test_what_the_init_block_loads(chip: RegisterFile) -> None:
    """finish_init fills mode, addresses, filter, rings, and ring lengths in two's complement."""
    chip.write_csr(0, INIT)
    chip.finish_init(0x1_8080, b"\x02\x03\x04\x05\x06\x07", bytes(range(8)), 0x12345678, 0x9ABCDEF0, 9, 0)
    assert chip.read_csr(15) == 0x8080
    assert [chip.read_csr(i) for i in range(8, 12)] == [0x0100, 0x0302, 0x0504, 0x0706]
    assert [chip.read_csr(i) for i in range(12, 15)] == [0x0302, 0x0504, 0x0706]
    assert [chip.read_csr(i) for i in (24, 25, 30, 31)] == [0x5678, 0x1234, 0xDEF0, 0x9ABC]
    assert [chip.read_csr(i) for i in (28, 29, 34, 35)] == [0x5678, 0x1234, 0xDEF0, 0x9ABC]
    assert [chip.read_csr(i) for i in (72, 76, 74, 78)] == [0xFE00, 0xFE00, 0xFFFF, 0xFFFF]
    assert chip.read_csr(6) == 0x0900


def test_encoded_lengths_beyond_the_largest(chip: RegisterFile) -> None:
    """Codes above 9 mean 512 descriptors, and CSR6 shows them as they stood in the init block."""
    chip.write_csr(0, INIT)
    chip.finish_init(0, bytes(6), bytes(8), 0x1000, 0x2000, 15, 10)
    assert [chip.read_csr(i) for i in (6, 76, 78)] == [0xAF00, 0xFE00, 0xFE00]


def test_reset_in_mid_frame(running: RegisterFile) -> None:
    """Every kind of stop forgets a half-sent chained frame."""
    for stop in (running.stop, running.soft_reset, running.hard_reset):
        running.words[state.TX_IN_FRAME] = 1
        stop()
        assert running.words[state.TX_IN_FRAME] == 0
