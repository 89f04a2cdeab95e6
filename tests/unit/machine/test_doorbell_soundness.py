"""Which doorbell on which machine: what gives no memory ordering is refused (the argument is in machine.ring)."""

from __future__ import annotations

import pytest

from machine.doorbell import DOORBELLS, check_sound
from machine.errors import ConfigError, UnsoundDoorbellError


@pytest.mark.parametrize("kind", DOORBELLS)
@pytest.mark.parametrize("cpus", [(0,), (0, 1)])
def test_everything_is_sound_on_x86(kind: str, cpus: tuple[int, ...]):
    """x86-64 keeps stores in order: any doorbell, any number of CPUs."""
    check_sound(kind, cpus, "x86_64")


@pytest.mark.parametrize("cpus", [(0,), (0, 1)])
def test_spin_is_refused_on_arm(cpus: tuple[int, ...]):
    """On arm64 nobody orders what a spinning reader sees."""
    with pytest.raises(UnsoundDoorbellError, match="spin doorbell is not sound on aarch64"):
        check_sound("spin", cpus, "aarch64")


@pytest.mark.parametrize("kind", [kind for kind in DOORBELLS if kind != "spin"])
def test_several_cpus_are_refused_on_arm(kind: str):
    """On arm64 a reader that did not sleep has no order with a writer on another CPU; one CPU is fine."""
    with pytest.raises(UnsoundDoorbellError, match="must share one CPU"):
        check_sound(kind, (0, 1), "aarch64")
    check_sound(kind, (0,), "aarch64")
    check_sound(kind, (3, 3), "aarch64")


def test_unknown_doorbell():
    """A name that is no strategy is a ConfigError, whatever the machine."""
    with pytest.raises(ConfigError, match="unknown doorbell 'bell'"):
        check_sound("bell", (0,), "x86_64")
