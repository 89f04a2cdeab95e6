"""The tables of messages as documentation: ``python -m vmm.vfiouser.reference docs/vfio-user.md`` renews the page."""

from __future__ import annotations

import sys
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final

from vmm.vfiouser import messages
from vmm.vfiouser.messages import (
    HEADER,
    MESSAGES,
    Command,
    DeviceFlag,
    DmaFlag,
    HeaderFlag,
    IrqAction,
    IrqData,
    IrqFlag,
    IrqIndex,
    Layout,
    RegionFlag,
    RegionIndex,
    UnmapFlag,
)

__all__ = ["BEGIN", "END", "markdown", "renewed"]

BEGIN: Final = "<!-- made by python -m vmm.vfiouser.reference: begin -->\n"
END: Final = "<!-- end -->\n"
_BITS: Final = {"H": "16", "I": "32", "Q": "64"}
_FLAGS: Final[tuple[tuple[str, type[IntFlag]], ...]] = (
    ("header", HeaderFlag),
    ("DEVICE_GET_INFO", DeviceFlag),
    ("DEVICE_GET_REGION_INFO", RegionFlag),
    ("DMA_MAP", DmaFlag),
    ("DMA_UNMAP", UnmapFlag),
    ("DEVICE_GET_IRQ_INFO", IrqFlag),
    ("DEVICE_SET_IRQS, data", IrqData),
    ("DEVICE_SET_IRQS, action", IrqAction),
)
_LIMITS: Final = (
    ("max_msg_fds", messages.MAX_DESCRIPTORS),
    ("max_data_xfer_size", messages.MAX_DATA),
    ("max_dma_maps", messages.MAX_WINDOWS),
    ("pgsizes", messages.PAGE),
    ("bytes in a message", messages.MAX_MESSAGE),
)


def _fields(layout: Layout, more: str) -> str:
    parts = [f"{name}:{_BITS[code]}" for name, code in layout.fields.items()]
    return " ".join([*parts, *([f"+ {more}"] if more else [])]) or "nothing"


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _indices(kind: type[IntEnum]) -> str:
    return ", ".join(f"{index.value} {index.name}" for index in kind)


def markdown() -> str:
    """The generated part of the page."""
    commands: list[tuple[object, ...]] = []
    for command in Command:
        message = MESSAGES.get(command)
        if message is None:
            commands.append((command.value, command.name, "not offered", "", ""))
            continue
        request, reply = _fields(message.request, message.more), _fields(message.reply, message.reply_more)
        commands.append((command.value, command.name, request, reply, message.descriptors or ""))
    flags: list[tuple[object, ...]] = [
        (place, ", ".join(f"{flag.value:#x} {flag.name}" for flag in kind.__members__.values()))
        for place, kind in _FLAGS
    ]
    return "\n".join(
        (
            f"Header, {HEADER.size} bytes: {_fields(HEADER, '')}. Numbers behind names are bits; little-endian.\n",
            _table(("command", "name", "request", "reply", "descriptors"), commands),
            _table(("where", "flags"), flags),
            f"Regions: {_indices(RegionIndex)}. Interrupts: {_indices(IrqIndex)}.\n",
            _table(("limit", "value"), list(_LIMITS)),
        )
    )


def renewed(page: str) -> str:
    """The page with its generated part as the tables have it now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + markdown() + "\n" + END + after


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text()))
