"""Every bit that a driver can write has an effect that a test shows, or the tables and the document say it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.lance import bits
from machine.lance.fields import Access, Field, Register
from machine.lance.registers import BCRS, CSRS
from vmapp.lance.testkit import MAC, Rig

TESTS = Path(__file__).parents[1]
WRITABLE = (Access.RW, Access.STOP, Access.SPND, Access.W1S, Access.W1C)
RECEIVE, TRANSMIT, LOOP = (f"lance_engine/test_engine_{name}" for name in ("receive", "transmit", "loopback"))
FEATURES, ALONE = "lance_engine/test_engine_features", "lance_engine/test_engine_registers_only"
CSR0, INTERRUPTS, LINK, PORTS, TABLES, PCI = (
    f"lance_registers/test_lance_{name}" for name in ("csr0", "interrupts", "link", "ports", "tables", "pci")
)

SHOWN = {  # register and field -> the file and the test that show the effect
    "CSR0 BABL": (TRANSMIT, "test_babble_begins_beyond_1518_with_fcs"),
    "CSR0 CERR": (TRANSMIT, "test_no_link_is_loss_of_carrier"),
    "CSR0 MISS": (RECEIVE, "test_miss_counts_only_frames_for_this_station"),
    "CSR0 MERR": (TRANSMIT, "test_buffer_outside_memory_is_reported"),
    "CSR0 RINT": (RECEIVE, "test_frame_lands_in_its_buffer_with_a_real_fcs"),
    "CSR0 TINT": (TRANSMIT, "test_which_frames_give_a_tint"),
    "CSR0 IDON": (TRANSMIT, "test_init_block_fills_the_registers"),
    "CSR0 INEA": (INTERRUPTS, "test_csr0_cause"),
    "CSR0 TDMD": (TRANSMIT, "test_one_frame_goes_out_and_its_tmd_comes_back"),
    "CSR0 STOP": (TRANSMIT, "test_ring_position_survives_stop_and_start"),
    "CSR0 STRT": (TRANSMIT, "test_ring_position_survives_stop_and_start"),
    "CSR0 INIT": (TRANSMIT, "test_init_block_fills_the_registers"),
    **{f"CSR3 {name}M": (INTERRUPTS, "test_csr0_cause") for name in ("BABL", "MISS", "MERR", "RINT", "TINT")},
    "CSR3 IDONM": (INTERRUPTS, "test_csr0_cause"),
    "CSR3 DXSUFLO": (TRANSMIT, "test_unfinished_chain_is_an_underflow"),
    "CSR4 EN124": (TABLES, "test_gates"),
    "CSR4 DPOLL": (TRANSMIT, "test_autonomous_poll"),
    "CSR4 APAD_XMT": (TRANSMIT, "test_short_frame_is_padded_to_sixty"),
    "CSR4 ASTRP_RCV": (RECEIVE, "test_pad_stripping"),
    "CSR4 MFCO": (RECEIVE, "test_missed_frame_counter_wraps_with_mfco"),
    "CSR4 MFCOM": (INTERRUPTS, "test_csr4_cause"),
    "CSR4 UINTCMD": (INTERRUPTS, "test_user_interrupt"),
    "CSR4 UINT": (INTERRUPTS, "test_user_interrupt"),
    "CSR4 TXSTRT": (TRANSMIT, "test_frame_with_a_wrong_fcs_has_been_sent"),
    "CSR4 TXSTRTM": (INTERRUPTS, "test_csr4_cause"),
    "CSR5 TOKINTD": (TRANSMIT, "test_which_frames_give_a_tint"),
    "CSR5 LTINTEN": (TRANSMIT, "test_which_frames_give_a_tint"),
    **{f"CSR5 {name}": (FEATURES, "test_what_is_a_magic_packet") for name in ("MPPLBA", "MPINT", "MPEN", "MPMODE")},
    "CSR5 MPINTE": (FEATURES, "test_no_magic_without_a_receiver"),
    "CSR5 SPND": (TRANSMIT, "test_suspended_transmitter_waits"),
    **{f"CSR{i} IADR{half}": (TRANSMIT, "test_init_block_fills_the_registers") for i, half in ((1, "L"), (2, "U"))},
    **{f"CSR{i} IADR{half}": (TABLES, "test_init_address_has_two_names") for i, half in ((16, "L"), (17, "U"))},
    **{f"CSR{i} LADRF": (RECEIVE, "test_filter_may_change_while_suspended") for i in range(8, 12)},
    **{f"CSR{i} PADR": (RECEIVE, "test_address_filter") for i in range(12, 15)},
    **{f"CSR15 {name}": (RECEIVE, "test_address_filter") for name in ("PROM", "DRCVBC", "DRCVPA")},
    "CSR15 INTL": (LOOP, "test_external_loopback_needs_the_cable"),
    "CSR15 LOOP": (LOOP, "test_frame_comes_back_with_its_fcs"),
    "CSR15 FCOLL": (TRANSMIT, "test_forced_collision_gives_up_after_retries"),
    "CSR15 DXMTFCS": (TRANSMIT, "test_driver_appends_the_fcs_itself"),
    **{f"CSR15 {name}": (CSR0, "test_start_obeys_mode") for name in ("DTX", "DRX")},
    **{f"CSR{i} {name}": (ALONE, "test_both_rings_begin_at_their_first_descriptor")
       for i, name in ((24, "BADRL"), (25, "BADRU"), (30, "BADXL"), (31, "BADXU"), (76, "RCVRL"), (78, "XMTRL"))},
    **{f"CSR{i} {name}": (ALONE, "test_a_counter_may_be_set_after_its_length")
       for i, name in ((72, "RCVRC"), (74, "XMTRC"))},
    **{f"{name} SWSTYLE": (TABLES, "test_software_style") for name in ("CSR58", "BCR20")},
    "CSR112 MFC": (RECEIVE, "test_missed_frame_counter_wraps_with_mfco"),
    "CSR122 RCVALGN": (FEATURES, "test_aligned_reception"),
    "BCR2 LEDPE": (TABLES, "test_gates"),
    "BCR2 APROMWE": (PORTS, "test_aprom_write_enable"),
    **{f"BCR{i} LNKSTE": (LINK, "test_led_shows_what_it_is_told_to") for i in range(4, 8)},
    **{f"BCR22 {name}": (PCI, "test_latency_is_bcr22") for name in ("MAX_LAT", "MIN_GNT")},
}  # fmt: skip


def fields() -> Iterator[tuple[Register, Field]]:
    """All that can be written."""
    for register in (*CSRS.values(), *BCRS.values()):
        yield from ((register, field) for field in register.fields if field.access in WRITABLE)


def test_every_field_is_shown_or_says_that_it_does_nothing() -> None:
    """No writable field is without a test, and none that says that it does nothing has one."""
    effective = {f"{register.name} {field.name}" for register, field in fields() if not field.inert}
    assert effective == set(SHOWN)


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_test_that_shows_it_is_there(name: str) -> None:
    """The file has a test of that name."""
    file, function = SHOWN[name]
    assert re.search(rf"^def {function}\(", (TESTS / f"{file}.py").read_text(), re.MULTILINE)


def workday(register: Register | None, field: Field | None) -> tuple[bytes, tuple[bytes, ...], int, int]:
    """What comes of a driver's work, with one field set, or none: memory, what was sent, CSR0 and INTA#."""
    rig = Rig()
    rig.write_csr(4, 0x8915)  # EN124
    rig.write_bcr(2, rig.regs.read_bcr(2) | bits.BCR2_LEDPE)
    rig.boot(csr4=0x8915)
    rig.lend_all(6)
    rig.lend(6, 100)
    rig.write_csr(5, bits.CSR5_SPND)
    if register is not None and field is not None:
        read, write = (rig.csr, rig.write_csr) if register.space == "CSR" else (rig.regs.read_bcr, rig.write_bcr)
        write(register.index, read(register.index) | field.mask)
        assert read(register.index) & field.mask == (field.mask if field.access is not Access.W1C else 0)
    rig.write_csr(5, rig.csr(5) & ~bits.CSR5_SPND)
    frames = [MAC + bytes([number]) * (60 + 100 * number) for number in range(6)]
    for number, frame in enumerate(frames):
        rig.queue(number, frame[: 30 + 100 * number], 0x82 if number == 2 else 0x81 if number == 3 else 0x83)
    rig.kick()
    rig.port.waiting += [*frames, b"\xff" * 6 + bytes(200), bytes.fromhex("020000000009") + bytes(60)]
    while rig.port.waiting and rig.engine.receive():
        rig.engine.poll()
    rig.queue(6, frames[0], 0x82)  # and no end: an underflow
    rig.kick()
    rig.regs.set_link(False)
    rig.queue(7, frames[0])
    rig.kick()
    return bytes(rig.ram), tuple(rig.port.sent), rig.csr(0), rig.regs.irq_level


@pytest.mark.parametrize(("register", "field"), [each for each in fields() if each[1].inert], ids=lambda it: it.name)
def test_what_says_that_it_does_nothing_does_nothing(register: Register, field: Field) -> None:
    """Set for a driver's whole working day, such a field changes no frame, no byte of memory and no interrupt."""
    assert workday(register, field) == workday(None, None)


@pytest.mark.parametrize(
    "name", ["CSR15 PROM", "CSR15 DRCVBC", "CSR122 RCVALGN", "CSR15 DXMTFCS", "CSR3 DXSUFLO", "CSR5 MPMODE"]
)
def test_the_working_day_would_show_an_effect(name: str) -> None:
    """The same day is another one with a field that has an effect: the comparison is not blind."""
    register, field = next(each for each in fields() if f"{each[0].name} {each[1].name}" == name)
    both = Field("MPMODE", bits.CSR5_MAGIC, Access.RW, "") if name == "CSR5 MPMODE" else field
    assert workday(register, both) != workday(None, None)


def test_the_working_day_is_not_an_empty_one() -> None:
    """Frames have arrived, one over two buffers; frames have left, and one was broken off."""
    _, sent, csr0, _ = workday(None, None)
    assert len(sent) >= 3
    assert csr0 & bits.CSR0_RINT
    assert csr0 & bits.CSR0_TINT
