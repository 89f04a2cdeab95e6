"""Files that a user names for a command to write: what may be replaced is replaced whole, all else is written to.

A target is looked at when the command starts, because a benchmark of seven minutes must not find out at its end that it
cannot write. What it is decides how it is written:

==================================== ===============================================================================
a new name, or a regular file        A temporary file beside it takes its name when it is complete: at every moment
                                     there is the whole old file or the whole new one, on a full disk too.
a regular file with other names      Replacing one name would leave the old content under the others, or change its
(hard links), of another owner, in   owner, or is forbidden. It is written in place, and its blocks are allocated
a directory that cannot be written,  beforehand, so that a full disk leaves the old content as it was.
or a mount point
a device, a FIFO                     Written to, like `cat >FILE`. It is opened once and kept open: the reader of a
                                     FIFO takes the first close for the end.
``-``, /dev/stdout, /dev/fd/N, ...   The descriptor is written to (``machine.descriptors``).
==================================== ===============================================================================

A symbolic link is followed: its target is what the user has named.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from lab.outways import Sink, way_to
from machine.descriptors import named_descriptor
from machine.errors import ConfigError, WorldswitchError

__all__ = ["OutFile", "apart_from"]


class OutFile:
    """The file ``path``, looked at now and written later. Every failure is one line, an ``error`` of the caller's kind.

    ``path``: as the user gave it; see above for what it may be.
    """

    def __init__(self, path: str | os.PathLike[str], error: type[WorldswitchError] = ConfigError) -> None:
        self.path = os.fspath(path)
        self._error = error
        with self._one_line():
            self._way = way_to(self.path)

    @property
    def is_standard_output(self) -> bool:
        """Whether standard output is what is written; whatever else a command has to say goes to standard error."""
        return named_descriptor(self.path) == 1

    @contextlib.contextmanager
    def writing(self) -> Iterator[Sink]:
        """What the new content is written to; the target has it when the block ends, and only if it ends well."""
        with self._one_line():
            try:
                yield self._way.begin()
                self._way.finish()
            except BaseException:
                self._way.abandon()
                raise

    def write(self, content: bytes) -> None:
        """The target's new content, all of it or none."""
        with self.writing() as sink:
            sink.write(content)

    def close(self) -> None:
        """Gives back what was opened at the start; harmless twice."""
        self._way.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise self._error(f"cannot write {self.path or 'a file without a name'}: {reason}") from error


@contextlib.contextmanager
def apart_from(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Within the block, words for people go to standard error if ``path`` means standard output: data only there."""
    if path is None or named_descriptor(path) != 1:
        yield
        return
    sys.stdout.flush()
    with contextlib.redirect_stdout(sys.stderr):
        yield
