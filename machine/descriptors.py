"""Names of files that mean a descriptor which this process has already, and writing to descriptors of any kind.

``-`` is standard output, as in most programs. ``/dev/stdout``, ``/dev/stderr`` and ``/dev/fd/N`` are symbolic links
into /proc/self/fd. Linux does not duplicate the descriptor when one of them is opened, as other systems do: it opens
the file behind it anew. For a regular file that is a second file offset, at 0, so that a log which a user appends to
would be overwritten; for a socket it fails. So these names are recognised here, and the descriptor itself is used.
"""

from __future__ import annotations

import os
import re
import select
from typing import Final

__all__ = ["STANDARD_OUTPUT", "named_descriptor", "write_all"]

STANDARD_OUTPUT: Final = "-"
"""The file name that means standard output; a file of that name is ``./-``."""

_OWN: Final = re.compile(r"/dev/fd/(\d{1,9})|/proc/(?:self|thread-self|\d+)/fd/(\d{1,9})")
_STANDARD: Final = {STANDARD_OUTPUT: 1, "/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_MOST_LINKS: Final = 40  # of symbolic links in a row, as the kernel has it (fs/namei.c, MAXSYMLINKS)


def named_descriptor(path: str | os.PathLike[str]) -> int | None:
    """The descriptor of this process that ``path`` means, if it means one; symbolic links to such names included."""
    name = os.fspath(path)
    for _ in range(_MOST_LINKS):
        if name in _STANDARD:
            return _STANDARD[name]
        match = _OWN.fullmatch(name)
        if match is not None and _is_own(name):
            return int(match[1] or match[2])
        try:
            name = os.path.join(os.path.dirname(name), os.readlink(name))
        except OSError:  # no link, or not there: an ordinary name
            return None
    return None


def _is_own(name: str) -> bool:
    """Whether a name of the kind /proc/PID/fd/N is of this process and not of another one."""
    process = name.split("/")[2]
    return not process.isdecimal() or int(process) == os.getpid()


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of ``data``, waiting as long as the reader makes it wait; OSError if it cannot be written.

    Somebody else who has the same open file (a shell's standard output, for instance) may have made it non-blocking.
    """
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
