"""What the register tables mean to the code that runs on every access: masks and word indices, computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from machine.lance import state
from machine.lance.bcrs import BCRS
from machine.lance.csrs import CSRS
from machine.lance.fields import BCR_SPACE, CSR_SPACE, Access, Register

__all__ = ["BCR_PLANS", "CSR_PLANS", "CSR_WORDS", "H_RESET", "STOP", "S_RESET", "ResetStep", "WritePlan", "word_of"]

_SPACES: Final = {CSR_SPACE: (state.CSR, state.CSR_COUNT), BCR_SPACE: (state.BCR, state.BCR_COUNT)}

ResetStep = tuple[int, int, int]  # word, bits to keep, bits to set


@dataclass(frozen=True, slots=True)
class WritePlan:
    """How a write changes one register.

    ``word``: where its value is. ``running``, ``suspended``, ``stopped``: bits that take the written value in
    that state. ``w1c``: bits that a 1 clears. ``cached``: bits whose change an engine must hear of. The write
    is ignored unless ``gate_mask`` is 0 or meets word ``gate_word``.
    """

    word: int
    running: int
    suspended: int
    stopped: int
    w1c: int
    cached: int
    gate_word: int
    gate_mask: int
    behaviour: str


def word_of(space: str, index: int) -> int:
    """Index of a register's own word within the state."""
    return _SPACES[space][0] + index


def _plan(register: Register) -> WritePlan:
    gate = register.gate
    return WritePlan(
        word=word_of(*(register.alias or (register.space, register.index))),
        running=register.writable(stopped=False, suspended=False),
        suspended=register.writable(stopped=False, suspended=True),
        stopped=register.writable(stopped=True, suspended=False),
        w1c=register.mask(Access.W1C),
        cached=_holder(register).cached,
        gate_word=word_of(gate.space, gate.index) if gate else 0,
        gate_mask=gate.mask if gate else 0,
        behaviour=register.behaviour,
    )


def _holder(register: Register) -> Register:
    """The register that holds the value: itself, unless it is an alias."""
    if register.alias is None:
        return register
    space, index = register.alias
    return (CSRS if space == CSR_SPACE else BCRS)[index]


def _reserved(space: str, index: int) -> WritePlan:
    return WritePlan(word_of(space, index), 0, 0, 0, 0, 0, 0, 0, "ignored")


def _plans(space: str, table: dict[int, Register]) -> tuple[WritePlan, ...]:
    count = _SPACES[space][1]
    return tuple(_plan(table[i]) if i in table else _reserved(space, i) for i in range(count))


def _steps(tables: Iterable[Register], attribute: str) -> tuple[ResetStep, ...]:
    """What a reset does to each register that holds its own value and has bits in ``attribute``."""
    steps = []
    for register in tables:
        affected: int = getattr(register, attribute)
        if affected and register.alias is None:
            steps.append((word_of(register.space, register.index), 0xFFFF & ~affected, register.reset & affected))
    return tuple(steps)


def _everything() -> tuple[ResetStep, ...]:
    """H_RESET: each word of both spaces gets its reset value, reserved ones 0."""
    owners = {word_of(r.space, r.index): r.reset for r in (*CSRS.values(), *BCRS.values()) if r.alias is None}
    words = range(state.CSR, state.BCR + state.BCR_COUNT)
    return tuple((word, 0, owners.get(word, 0)) for word in words)


CSR_PLANS: Final = _plans(CSR_SPACE, CSRS)
BCR_PLANS: Final = _plans(BCR_SPACE, BCRS)
CSR_WORDS: Final = tuple(plan.word for plan in CSR_PLANS)
H_RESET: Final = _everything()
S_RESET: Final = _steps((*CSRS.values(), *BCRS.values()), "s_reset")
STOP: Final = _steps((*CSRS.values(), *BCRS.values()), "stop")
