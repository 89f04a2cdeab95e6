"""The Lance's registers for people: the tables as a document, and the state of a running chip as text.

``python -m machine.lance.registers`` prints docs/registers.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from machine.lance import bits, state
from machine.lance.bcrs import BCRS
from machine.lance.csrs import CSRS
from machine.lance.fields import Register
from machine.lance.pci import CONFIG_FIELDS
from machine.lance.plans import word_of
from machine.lance.regfile import RegisterFile

__all__ = ["BCRS", "CSRS", "describe", "markdown"]

_SHOWN_CSRS: Final = (0, 3, 4, 5, 6, 15, 46, 47, 58, 80, 112, 114, 124)
_SHOWN_BCRS: Final = (2, 4, 9, 18, 20)
_INERT_MARK: Final = "*"

_INTRODUCTION: Final = """# Registers of the Lance (Am79C970A)

Generated from `machine/lance/csrs.py`, `bcrs.py` and `pci.py` by `python -m machine.lance.registers`.

Columns of the summaries: value after H_RESET; the bits that S_RESET and STOP put back to it (a dash: none).
Registers that are not listed are reserved: they read 0 and ignore writes. Bits that no field names read 0.

What is *kept, without effect here* takes writes and reads back as on the chip, and changes nothing else: no bus
bursts, FIFOs, pins, transceivers or collisions exist here, and two modes are not modelled (big-endian buffers, BSWP;
look-ahead packet processing, LAPPEN). What is *never set here* is a cause that nothing here gives. `worldswitch
registers` puts an asterisk behind such bits.
"""

_PORTS: Final = """## Ports

| port | WIO (16-bit) | DWIO (32-bit) |
|---|---|---|
| APROM | 0x00-0x0F, bytes and aligned words | 0x00-0x0F, aligned double words; reads also of bytes and aligned words |
| RDP | 0x10 | 0x10 |
| RAP | 0x12 | 0x14 |
| RESET (a read performs S_RESET) | 0x14 | 0x18 |
| BDP | 0x16 | 0x1C |

A 32-bit write to offset 0x10 in WIO switches to DWIO; only H_RESET switches back. An access of another width
reads all ones and writes nothing. RDP has 16 bits in DWIO, too, and 0 above them; but CSR88 reads there as the whole
chip ID, 0x02621003.
"""


def _summary(registers: Iterable[Register]) -> Iterator[str]:
    yield "| register | title | H_RESET | S_RESET | STOP | writable | note |"
    yield "|---|---|---|---|---|---|---|"
    for register in registers:
        resets = " | ".join(f"0x{mask:04X}" if mask else "-" for mask in (register.s_reset, register.stop))
        access = ", ".join(dict.fromkeys(field.access.value for field in register.fields))
        gate = f"only while {register.gate.name}" if register.gate else ""
        effect = "kept, without effect here" if register.inert else ""
        note = register.note or "; ".join(filter(None, (gate, effect)))
        yield f"| {register.name} | {register.title} | 0x{register.reset:04X} | {resets} | {access} | {note} |"


def _fields(register: Register) -> Iterator[str]:
    yield f"### {register.name}: {register.title}"
    yield ""
    yield "| bits | field | access | meaning |"
    yield "|---|---|---|---|"
    for field in register.fields:
        yield f"| {field.bits} | {field.name} | {field.access.value} | {field.described} |"
    yield ""


def _space(title: str, table: dict[int, Register]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from _summary(table.values())
    yield ""
    for register in table.values():
        if len(register.fields) > 1:
            yield from _fields(register)


def _pci() -> Iterator[str]:
    yield "## PCI configuration space"
    yield ""
    yield "| offset | name | bytes | RST# | writable | meaning |"
    yield "|---|---|---|---|---|---|"
    for field in CONFIG_FIELDS:
        digits = 2 * field.width
        access = f"0x{field.writable:0{digits}X}" if field.writable else "-"
        if field.w1c:
            access = f"0x{field.w1c:0{digits}X} (1 clears)"
        yield (
            f"| 0x{field.offset:02X} | {field.name} | {field.width} | 0x{field.reset:0{digits}X} | {access} "
            f"| {field.meaning} |"
        )


def markdown() -> str:
    """The text of docs/registers.md."""
    lines = [_INTRODUCTION, _PORTS]
    lines += _space("Control and status registers", CSRS)
    lines += _space("Bus configuration registers", BCRS)
    lines += _pci()
    return "\n".join(lines) + "\n"


def describe(words: memoryview) -> str:
    """What a chip's state words say, one register a line; changes nothing."""
    return "\n".join(_state_lines(RegisterFile(words)))


def _state_lines(chip: RegisterFile) -> Iterator[str]:
    words = chip.words
    width = 4 if words[word_of("BCR", 18)] & bits.BCR18_DWIO else 2
    mac = b"".join(chip.read_csr(12 + i).to_bytes(2, "little") for i in range(3))
    base = chip.io_base
    yield f"ports     {'none' if base is None else f'{base:#06x}'}  {'DWIO' if width == 4 else 'WIO'}  RAP {chip.rap}"
    yield f"address   {mac.hex(':')}  link {'up' if words[state.LINK_UP] else 'down'}  INTA# {chip.irq_level}"
    yield _ring_line("receive", chip, 24, 72)
    yield _ring_line("transmit", chip, 30, 74)
    for table, shown in ((CSRS, _SHOWN_CSRS), (BCRS, _SHOWN_BCRS)):
        for index in shown:
            yield _register_line(chip, table[index])
    yield f"{_INERT_MARK} kept, without effect here (docs/registers.md)"


def _ring_line(name: str, chip: RegisterFile, base: int, counter: int) -> str:
    address = chip.read_csr(base) | chip.read_csr(base + 1) << 16
    length = 0x10000 - chip.read_csr(counter + 4)
    # Counted up to 0: the counter equals the length register at the first descriptor.
    current = chip.read_csr(counter) - chip.read_csr(counter + 4) & 0xFFFF
    return f"{name:9} ring at {address:#010x}, {length} descriptors, at {current}"


def _register_line(chip: RegisterFile, register: Register) -> str:
    value = (chip.read_csr if register.space == "CSR" else chip.read_bcr)(register.index)
    return f"{register.name:9} {value:#06x}  {register.explain(value, _INERT_MARK)}".rstrip()


if __name__ == "__main__":
    sys.stdout.write(markdown())
