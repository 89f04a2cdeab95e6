"""QEMU's known errors: the only differences between its pcnet and ours that the comparison accepts.

A row says in words what QEMU does and what the data sheet (Am79C970A, publication 19436) says, and in functions what
follows for the comparison. As far as possible a row corrects QEMU, so that the rest of the step is still compared in
full: it is given what the chip would have taken, or its answer is replaced by the chip's. A row is as narrow as its
condition; a step that no row explains is a difference, and a test fails.
"""

from __future__ import annotations

from typing import Final

from tests.differential import rowsconfig, rowsinit, rowslink, rowsreceive, rowsregisters, rowsstart, rowstransmit
from tests.differential.row import KnownError

__all__ = ["KNOWN_ERRORS"]

KNOWN_ERRORS: Final[tuple[KnownError, ...]] = (
    *rowsregisters.ROWS,
    *rowsstart.ROWS,
    *rowsinit.ROWS,
    *rowstransmit.ROWS,
    *rowslink.ROWS,
    *rowsreceive.ROWS,
    *rowsconfig.ROWS,
)
