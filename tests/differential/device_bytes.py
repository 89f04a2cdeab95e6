"""A coverage-guided fuzzer for the device alone.

``python -m tests.differential.device_bytes CORPUS [libFuzzer options]``.

An input is the stream of choices of a random guest (``Guest``), so that any bytes are a sequence of steps that gets
somewhere; libFuzzer keeps those that reach new code of register file and engine. CORPUS is a folder.
"""

from __future__ import annotations

import sys
from random import Random
from typing import Final

import atheris

with atheris.instrument_imports(include=["machine.lance", "vmapp.lance"]):
    from tests.differential.machines import OurMachine

from tests.differential.generator import Guest
from tests.differential.steps import Config, Inject, Link, Port, Reg, Reset, Step, Store, accesses, decode

__all__ = ["Choices", "apply", "main"]

_STEPS: Final = 60
_MOST_FRAMES: Final = 4 * 512  # one step may send what one access and a few polls find in the longest ring


class Choices(Random):
    """Random choices that are an input's bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._count = int.from_bytes(data, "little"), 8 * len(data)
        super().__init__(0)

    def getrandbits(self, k: int, /) -> int:
        """The next ``k`` bits."""
        taken = self._bits & (1 << k) - 1
        self._bits >>= k
        return taken

    def random(self) -> float:
        """The next 8 bits, as a fraction."""
        return self.getrandbits(8) / 256

    @property
    def used_up(self) -> bool:
        """Only zeros are left."""
        return not self._bits


def apply(machine: OurMachine, step: Step) -> None:
    """One step on our device alone, and time that passes; AssertionError for what must not be."""
    if isinstance(step, Store):
        machine.memory[step.address : step.address + len(step.data)] = step.data
    elif isinstance(step, Inject):
        machine.inject(step.frame)
    elif isinstance(step, Config):
        machine.config(step)
    elif isinstance(step, Link):
        machine.set_link(step.up)
    elif isinstance(step, Port | Reg | Reset):
        dwio = bool(machine.bcr(18) & 0x80)
        for port in accesses(step, dwio):
            machine.access(decode(port, machine.regs.rap, dwio))
    machine.time_passes()
    machine.looped.clear()
    assert len(machine.sent()) <= _MOST_FRAMES
    assert all(machine.csr(i) <= 0xFFFF for i in range(128))


def one_input(data: bytes) -> None:
    """A whole sequence."""
    machine, choices = OurMachine(), Choices(data)
    machine.config(Config(0x04, 2, 0x0005))
    for step in Guest(choices, machine).steps(_STEPS):
        apply(machine, step)
        if choices.used_up:
            return


def main() -> None:
    """Runs until libFuzzer's limits are reached, or something is found."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
