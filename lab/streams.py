"""Standard input, output and error of the ``worldswitch`` program, whatever its caller has made of them.

**Closed ones** (`>&-`). The next file that the program opens would get the number 0, 1 or 2: a socket, the lock of a
run directory, a namespace. What is then printed goes into it, and a daemon's change of its standard streams closes it.
So a free number among the three gets /dev/null before anything is opened.

**Full ones** (`>/dev/full`, a disk). print() fails now or at a later flush, the last of which is the interpreter's own,
when nobody can say anything any more. Here a failed write raises ``OutputError`` from print() or from ``finish``: one
line, status 1. Within ``patient`` it is kept for ``finish``, so that work that can be done without the words is done.

**Ones that nobody reads** (`| head`). As for any program, that is no failure to speak of: quiet, and status 141, which
is what a shell makes of an end by SIGPIPE.

**Standard error** has nobody to complain to: what it does not take is dropped.

**Encodings.** A name of a file may hold bytes that are no text, and a terminal may know less than we print. Either way
what cannot be written is written as an escape.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

from machine.descriptors import write_all
from machine.errors import WorldswitchError

__all__ = ["OutputError", "claim_standard_descriptors", "finish", "patient", "take_over"]

NOBODY_READS: Final = 128 + signal.SIGPIPE
_ERRORS: Final = "worldswitch.escape"
_UNDECODED: Final = range(0xDC80, 0xDD00)  # the byte n of a name that is no text is U+DC00 + n (PEP 383)


class OutputError(WorldswitchError):
    """Standard output does not take what is printed. ``quiet``: because nobody reads it any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write standard output: {error.strerror}")
        self.quiet = isinstance(error, BrokenPipeError)
        if self.quiet:
            self.exit_status = NOBODY_READS


class _Descriptor(io.RawIOBase):
    """A standard stream's descriptor. After the first failure nothing more is written.

    ``deaf``: a failure is nobody's business. ``patient``: it is raised later, by ``finish``.
    """

    def __init__(self, fd: int, *, deaf: bool = False) -> None:
        super().__init__()
        self._fd = fd
        self._deaf = deaf
        self.patient = False
        self.failed = False
        self.unsaid: OutputError | None = None  # a failure that has not been raised

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: Any, /) -> int:  # any buffer; typing has no name for it before Python 3.12
        count = len(data)
        if self.failed:
            return count
        try:
            write_all(self._fd, data)
        except OSError as error:
            if self._deaf:
                return count
            self.failed = True
            if not self.patient:
                raise OutputError(error) from None
            self.unsaid = OutputError(error)
        return count


def claim_standard_descriptors() -> None:
    """Gives /dev/null to each of descriptors 0 to 2 that is free; first of all, before anything is opened."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            with contextlib.suppress(OSError):  # a machine without /dev/null has other troubles
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so this one


def take_over() -> None:
    """Makes the three streams of ``sys`` as said above. Once, by the program; a caller of ``main`` keeps its own."""
    claim_standard_descriptors()
    codecs.register_error(_ERRORS, _escape)
    if sys.stdin is None:
        sys.stdin = open(0, errors="surrogateescape", closefd=False)  # noqa: SIM115 - for as long as we live
    sys.stdout = _text(sys.stdout, _Descriptor(1))
    sys.stderr = _text(sys.stderr, _Descriptor(2, deaf=True), line_buffering=True)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""What stands for letters that an encoding lacks: \xe9 for a byte that is no text, \u2502 for any other."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    return "".join(map(_escaped, letters)), error.end


def _escaped(letter: str) -> str:
    if ord(letter) in _UNDECODED:
        return f"\\x{ord(letter) & 0xFF:02x}"
    return letter.encode("ascii", "backslashreplace").decode()


def _text(before: object, raw: _Descriptor, *, line_buffering: bool = False) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    lines = line_buffering or raw.isatty() or getattr(before, "write_through", False)  # PYTHONUNBUFFERED
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=_ERRORS, line_buffering=lines)


def _raw() -> _Descriptor | None:
    """Ours, if standard output is."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Descriptor) else None


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Within the block, standard output that does not take something is no reason to stop; ``finish`` raises it."""
    raw = _raw()
    if raw is None:
        yield
        return
    before, raw.patient = raw.patient, True
    try:
        yield
    finally:
        raw.patient = before


def finish() -> None:
    """Everything that was printed is written; OutputError if something was not. The interpreter finds nothing to do."""
    raw = _raw()
    if raw is None:
        sys.stdout.flush()
        return
    with patient():
        sys.stdout.flush()
    failure, raw.unsaid = raw.unsaid, None
    if failure is not None:
        raise failure
