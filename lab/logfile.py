"""Files that grow with what others say, and do not grow without a limit: logs and consoles in the run directory.

/run is memory. A guest that prints for a week, or a process that was taken over, must not be able to fill it.
"""

from __future__ import annotations

import os

__all__ = ["append", "trim"]

_CUT = b"[... cut: the file had reached its limit ...]\n"


def append(fd: int, data: bytes, limit: int) -> None:
    """Appends ``data`` to the file ``fd``, open for reading and for appending; then ``trim``. OSError as write()."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    trim(fd, limit)


def trim(fd: int, limit: int) -> None:
    """If the file is longer than ``limit`` bytes, its newest half remains, behind a line that says so.

    ``fd``: open for reading and with O_APPEND, and written by this process alone: what is written during the cut by
    another would be lost.
    """
    size = os.fstat(fd).st_size
    if size <= limit:
        return
    newest = os.pread(fd, limit // 2, size - limit // 2)
    os.ftruncate(fd, 0)
    os.write(fd, _CUT + newest.partition(b"\n")[2] if b"\n" in newest else _CUT + newest)
