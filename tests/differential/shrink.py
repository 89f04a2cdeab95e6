"""Makes a sequence that differs smaller, so that a failure says what matters."""

from __future__ import annotations

from collections.abc import Sequence

from tests.differential.compare import Comparison
from tests.differential.corrections import Difference
from tests.differential.qemumachine import QemuMachine
from tests.differential.steps import Step

__all__ = ["difference", "report", "shrink"]


def difference(qemu: QemuMachine, steps: Sequence[Step]) -> str | None:
    """What differs in that sequence, None if nothing does."""
    try:
        Comparison(qemu).run(steps)
    except Difference as found:
        return str(found)
    return None


def shrink(qemu: QemuMachine, steps: list[Step]) -> list[Step]:
    """A part of a sequence that still differs, and of which no single step can be left out."""
    size = max(1, len(steps) // 2)
    while True:
        shorter, at = False, 0
        while at < len(steps):
            rest = steps[:at] + steps[at + size :]
            if difference(qemu, rest) is None:
                at += size
            else:
                steps, shorter = rest, True
        if size == 1 and not shorter:
            return steps
        size = max(1, size // 2)


def report(qemu: QemuMachine, steps: list[Step]) -> str:
    """For a person: the smallest sequence that was found, and what differs in it."""
    small = shrink(qemu, steps)
    return "\n".join([*(f"    {step}," for step in small), str(difference(qemu, small))])
