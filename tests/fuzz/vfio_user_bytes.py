"""A coverage-guided fuzzer for the vfio-user server.

``python -m tests.fuzz.vfio_user_bytes CORPUS [libFuzzer options]``.

An input is a list of pieces of the stream, each a control byte, a length (two bytes, little-endian) and that many
bytes. The control byte says how many descriptors come with the piece and of which kind, whether the server has its
turn before it, and what level the device drives the line to.

CORPUS is a folder; when it is empty it gets one input for each command, made from the tables of messages.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["vmm.vfiouser"]):
    from tests.kit.vfioattack import KINDS, Attack, served_device, well_formed

__all__ = ["decode", "main", "seeds"]

_COUNT: Final = 0x03  # descriptors
_MANY: Final = 9  # what a count of 3 stands for: more than the server takes in one message
_KIND: Final = 0x0C
_PUMP: Final = 0x10
_LEVEL: Final = 0x20
_GREET: Final = 0x40  # in the first control byte: VERSION has been exchanged already
_KINDS: Final = tuple(KINDS)


def piece(data: bytes, kinds: list[str], control: int = _PUMP) -> bytes:
    """An input's encoding of one piece, with at most one descriptor."""
    kind = _KINDS.index(kinds[0]) << 2 if kinds else 0
    return bytes([control | len(kinds) | kind]) + len(data).to_bytes(2, "little") + data


def decode(data: bytes) -> list[tuple[int, bytes, list[str]]]:
    """(control byte, piece of the stream, kinds of descriptors) of an input; any bytes are one."""
    found = []
    start = 0
    while start + 3 <= len(data):
        control = data[start]
        length = int.from_bytes(data[start + 1 : start + 3], "little")
        count = control & _COUNT
        kinds = [_KINDS[(control & _KIND) >> 2]] * (_MANY if count == _COUNT else count)
        found.append((control, data[start + 3 : start + 3 + length], kinds))
        start += 3 + length
    return found


def seeds() -> list[bytes]:
    """Each good message behind a greeting, all of them one after another, and the greeting itself."""
    messages = well_formed()
    alone = [piece(*message, control=_PUMP | _GREET) for message in messages[1:]]
    chained = b"".join(piece(*message, control=_PUMP | _LEVEL) for message in messages)
    return [piece(*messages[0]), chained, *alone]


def main() -> None:
    """Runs until libFuzzer's limits are reached, or something is found."""
    corpus = Path(sys.argv[1])
    if not any(corpus.iterdir()):
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
    served = served_device()

    def one_input(data: bytes) -> None:
        attack = Attack(served)
        for number, (control, chunk, kinds) in enumerate(decode(data)):
            if number == 0 and control & _GREET:
                attack.send(*well_formed()[0])
            if control & _PUMP:
                attack.pump()
            served.server.interrupt.set_level(control & _LEVEL)
            attack.send(chunk, kinds)
        attack.pump()
        attack.finish()

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
