"""Our Lance and QEMU's pcnet do the same, or the table of known errors says why not.

WORLDSWITCH_DIFFERENTIAL_SECONDS and WORLDSWITCH_DIFFERENTIAL_SEED make it run longer, and elsewhere.
"""

from __future__ import annotations

import os
import time
from random import Random
from types import ModuleType
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machine.lance import bits, core, writes
from tests.differential.compare import Comparison
from tests.differential.corrections import Difference, SequenceEnd
from tests.differential.generator import Guest
from tests.differential.planted import PLANTED
from tests.differential.qemumachine import QemuMachine
from tests.differential.shrink import difference, report, shrink
from tests.differential.steps import BCR, CSR, Config, Port, Reg, Reset, Step
from vmapp.lance import engine, receive, scatter, transmit
from vmapp.lance import filter as filters
from vmapp.lance.descriptors import LAYOUTS

SECONDS = float(os.environ.get("WORLDSWITCH_DIFFERENTIAL_SECONDS", "60"))
SEED = int(os.environ.get("WORLDSWITCH_DIFFERENTIAL_SEED", "0"))
STEPS = 60
STATEFUL = {(CSR, 0), (CSR, 5), (CSR, 58), (BCR, 20)}
LEAST = 100
"""Sequences that even a slow machine has to get through, lest the test become empty."""


def play(qemu: QemuMachine, random: Random, count: int) -> tuple[list[Step], str | None]:
    """A random guest's sequence on both machines; the steps, and what differs."""
    comparison, steps = Comparison(qemu), []
    try:
        for step in Guest(random, comparison.ours).steps(count):
            steps.append(step)
            comparison.step(step)
        comparison.finish()
    except SequenceEnd:
        pass
    except Difference as found:
        return steps, str(found)
    return steps, None


@pytest.mark.timeout(SECONDS + 120)
def test_random_guests(qemu: QemuMachine) -> None:
    """Thousands of random guests, by seed: no difference on any port, in memory, on the wire or on INTA#."""
    deadline, seed = time.monotonic() + SECONDS, SEED
    while time.monotonic() < deadline or seed < SEED + LEAST:
        steps, found = play(qemu, Random(seed), STEPS)
        if found is not None:
            small = report(qemu, steps) if difference(qemu, steps) else "the sequence alone does not show it again"
            pytest.fail(f"seed {seed}: {found}\n{small}")
        seed += 1


@given(random=st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_guests_of_hypothesis(qemu: QemuMachine, random: Random) -> None:
    """The same generator on hypothesis' choices, which tend to extremes and shrink."""
    steps, found = play(qemu, random, STEPS // 2)
    assert found is None, report(qemu, steps)


def test_every_port_of_every_width(qemu: QemuMachine) -> None:
    """IN and OUT of 1, 2 and 4 bytes at all 32 offsets, in 16-bit and in 32-bit mode, for several RAPs."""
    ports = [(offset, width) for width in (1, 2, 4) for offset in range(33 - width)]
    for wide in (False, True):
        for rap in (0, 3, 4, 20, 88):
            steps: list[Step] = [Port(0x10, 4, 0)] if wide else []
            for offset, width in ports:
                value = 0x41424344 % (1 << 8 * width)
                steps += [Reg(CSR, rap), Port(offset, width), Reg(CSR, rap), Port(offset, width, value)]
            assert Comparison(qemu).run(steps) is None


@pytest.mark.parametrize("state", ["stopped", "suspended", "running"])
def test_every_register(qemu: QemuMachine, state: str) -> None:
    """All CSRs and BCRs but those that change this state take and lose each bit alike, also over S_RESET."""
    boot = PLANTED["ring-bases"]
    steps = {"stopped": [], "suspended": [*boot, Reg(CSR, 5, 1)], "running": [*boot]}[state]
    for value in (0xFFFF, 0x0000, 0x5555, 0xAAAA):
        for space, index in (*((CSR, i) for i in range(128)), *((BCR, i) for i in range(64))):
            if (space, index) not in STATEFUL:
                steps += [Reg(space, index, value), Reg(space, index)]
    assert Comparison(qemu).run(steps) is None
    assert Comparison(qemu).run([*steps, Reset()]) is None


def test_configuration_space(qemu: QemuMachine) -> None:
    """All 256 bytes, read in all widths, and the header written with ones and zeros."""
    widths = [(offset, width) for width in (1, 2, 4) for offset in range(0, 256, width)]
    assert Comparison(qemu).run(Config(offset, width) for offset, width in widths) is None
    for value in (0xFFFFFFFF, 0):
        header = (Config(offset, width, value % (1 << 8 * width)) for offset, width in widths if offset < 0x44)
        assert Comparison(qemu).run(header) is None


def test_shrinking(qemu: QemuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence that differs is cut down to the steps that matter."""
    monkeypatch.setattr(writes, "_CAUSES", 0x7E00)  # a device whose IDON cannot be acknowledged
    steps = [*PLANTED["txstrt"], Reg(CSR, 0, 0x0100), Reg(CSR, 3, 0x5F00), Reg(CSR, 4)]
    small = shrink(qemu, steps)
    assert len(small) <= 5
    assert difference(qemu, small) is not None


DEFECTS: dict[str, tuple[ModuleType, str, object]] = {
    "IDON cannot be acknowledged": (writes, "_CAUSES", 0x7E00),
    "IDON does not interrupt": (core, "_CSR0_MASKABLE", 0x5E00),
    "INEA is ignored": (core, "_INEA_SHIFT", 7),
    "rings of 256 at most": (core, "_LARGEST_RING_LOG2", 2),
    "the hash is off by one": (filters, "hash_index", lambda destination: crc32(destination) >> 26),
    "broadcasts have another address": (filters, "_BROADCAST", b"\xff" * 5 + b"\xfe"),
    "an underflow is no UFLO": (transmit, "_TRUNCATED", bits.TMD2_BUFF),
    "TMDs keep OWN": (transmit, "TMD_KEPT", 0xFFFFFFFF),
    "style 3 is style 2": (engine, "LAYOUTS", (*LAYOUTS[:3], LAYOUTS[2])),
    "frames are padded with ones": (receive, "_PAD", b"\x01" * 60),
    "missed frames are counted elsewhere": (receive, "_MISSED", 114),
    "a frame's length is without FCS": (scatter, "RMD2_MCNT", 0x0FFB),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_found(qemu: QemuMachine, monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    """The comparison is not blind: random guests find each of these defects, planted in our device."""
    module, name, value = DEFECTS[defect]
    monkeypatch.setattr(module, name, value)
    assert any(play(qemu, Random(seed), STEPS)[1] is not None for seed in range(300))
