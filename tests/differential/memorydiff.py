"""What of guest memory differs, and whether known errors explain it: descriptors by words, all else by bytes."""

from __future__ import annotations

from typing import Final

from tests.differential.context import RX, TX, Context, RingView
from tests.differential.corrections import Corrections, Difference
from tests.differential.row import Byte, Word
from vmapp.lance.descriptors import LAYOUTS

__all__ = ["make_equal"]

_SHOWN: Final = 8
_LONGEST: Final = 8192  # bytes that differ; more are a difference, whatever they are


def make_equal(context: Context, corrections: Corrections) -> bytes:
    """Both memories' contents, with QEMU's made equal to ours. Raises Difference for what no known error explains."""
    ours, theirs = bytes(context.ours.memory), bytes(context.qemu.memory)
    if ours == theirs:
        return ours
    places = _differing(ours, theirs)
    if len(places) > _LONGEST:
        raise Difference(f"{len(places)} bytes of memory differ, from {places[0]:#x} on")
    rings = {name: context.ring(name) for name in (TX, RX)}
    unexplained = [text for at in places if (text := _check(context, corrections, rings, at)) is not None]
    if unexplained:
        raise Difference("; ".join(unexplained[:_SHOWN]))
    context.qemu.memory[:] = ours
    return ours


def _differing(ours: bytes, theirs: bytes) -> list[int]:
    difference = (int.from_bytes(ours, "little") ^ int.from_bytes(theirs, "little")).to_bytes(len(ours), "little")
    return [at for at, byte in enumerate(difference) if byte]


def _check(context: Context, corrections: Corrections, rings: dict[str, RingView], at: int) -> str | None:
    """None if the byte at an address is explained, else what is wrong with it."""
    byte = Byte(at, context.ours.memory[at], context.qemu.memory[at], context.before[at])
    found = [(name, *place) for name, ring in rings.items() if (place := ring.place(at)) is not None]
    for name, entry, index in found:
        start = entry.at + 4 * index
        ours, theirs, was = (_word(m, start) for m in (context.ours.memory, context.qemu.memory, context.before))
        for part in _parts(context.style, index):
            corrected = corrections.word(Word(name, entry, part, ours, theirs, was))
            if corrected >> 8 * (at - start) & 0xFF == byte.ours:
                return None
    if corrections.byte(byte) == byte.ours:
        return None
    where = "".join(f" ({name} descriptor at {entry.at:#x}, word {index})" for name, entry, index in found)
    return f"memory at {at:#x}{where}: {byte.theirs:#04x}, not {byte.ours:#04x} (was {byte.before:#04x})"


def _word(memory: bytes | memoryview, at: int) -> int:
    return int.from_bytes(memory[at : at + 4], "little")


def _parts(style: int, index: int) -> list[str]:
    """What a word of a descriptor holds in that style; style 0 has two things in each."""
    layout = LAYOUTS[style]
    places = (
        ("status", layout.status),
        ("count", layout.count),
        ("result", layout.result),
        ("address", layout.address),
    )
    return [part for part, word in places if word == index] or ["reserved"]
