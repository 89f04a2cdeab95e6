"""What a record is called in a timeline, and what its argument says, in words."""

from __future__ import annotations

from typing import Any, Final

from lab.portnames import port_name
from machine import ring
from machine.ports import LANCE_DEFAULT_BASE
from machine.trace import EVENTS, Record
from machine.world import REASONS

__all__ = ["arguments_of", "label_of"]

_KINDS: Final = {ring.KIND_IN: "IN", ring.KIND_OUT: "OUT", ring.KIND_HLT: "HLT"}


def label_of(record: Record) -> str:
    """The slice's name: "OUT Lance RDP", "world switch (io)", "write() on the TAP"."""
    event = EVENTS[record.code]
    if event.argument == "trap":
        return _access(record.argument & 0xFFFFFFFF, 0)
    if event.argument == "key":
        return f"emulate {_access(record.argument, LANCE_DEFAULT_BASE)}"
    if event.argument == "reason":
        return f"{event.name} ({_reason(record.argument)})"
    return event.name


def arguments_of(record: Record) -> dict[str, Any]:
    """The slice's arguments."""
    meaning = EVENTS[record.code].argument
    if meaning == "trap":
        _, width, port = ring.unpack_key(record.argument)
        return {"sequence": record.argument >> 32, "port": f"{port:#06x}", "width": width}
    return {meaning: record.argument} if meaning and meaning != "reason" else {}


def _access(key: int, base: int) -> str:
    kind, _, port = ring.unpack_key(key)
    return f"{_KINDS.get(kind, 'bad request')} {port_name(f'{port + base:#06x}')}"


def _reason(reason: int) -> str:
    return REASONS.get(reason, "?").removeprefix("switches_for_")
