"""Reading captures, and the other ends of streams that captures are written to."""

from __future__ import annotations

import os
import select
import struct
from pathlib import Path

__all__ = ["EPB", "blocks", "drops", "fifo", "options", "read_all", "select_readable"]

EPB, ISB = 6, 5
DROPCOUNT = 4


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of every block; fails if the last one is not whole."""
    found, at = [], 0
    while at < len(data):
        kind, total = struct.unpack_from("=II", data, at)
        assert total % 4 == 0
        assert struct.unpack_from("=I", data, at + total - 4) == (total,), "a block that is cut short"
        found.append((kind, data[at + 8 : at + total - 4]))
        at += total
    return found


def options(body: bytes) -> dict[int, bytes]:
    """Code -> value."""
    found, at = {}, 0
    while at < len(body):
        code, length = struct.unpack_from("=HH", body, at)
        found[code] = body[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)
    return found


def drops(data: bytes) -> tuple[int, int, int]:
    """Frames in the capture, lost ones as the frames say, lost ones as the statistics at the end say."""
    frames = dropped = total = 0
    for kind, body in blocks(data):
        if kind == EPB:
            frames += 1
            (length,) = struct.unpack_from("=I", body, 12)
            counted = options(body[20 + (length + 3 & ~3) :]).get(DROPCOUNT, bytes(8))
            dropped += struct.unpack("=Q", counted)[0]
        elif kind == ISB:
            total += struct.unpack("=Q", options(body[12:])[5])[0]
    return frames, dropped, total


def fifo(folder: Path) -> tuple[str, int]:
    """A FIFO and its reader."""
    path = folder / "fifo"
    os.mkfifo(path)
    return str(path), os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def select_readable(fd: int) -> bool:
    """Whether something waits there."""
    return bool(select.select([fd], [], [], 0)[0])


def read_all(fd: int) -> bytes:
    """What waits in a pipe."""
    data = b""
    while True:
        try:
            piece = os.read(fd, 1 << 16)
        except BlockingIOError:
            return data
        if not piece:
            return data
        data += piece
