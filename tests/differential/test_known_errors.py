"""The table of known errors: each row explains what it is for, and is needed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.compare import Comparison
from tests.differential.corrections import Difference
from tests.differential.knownerrors import KNOWN_ERRORS
from tests.differential.planted import PLANTED
from tests.differential.qemumachine import QemuMachine
from tests.differential.row import KnownError
from tests.differential.table import markdown

NAMES = [row.name for row in KNOWN_ERRORS]
ALMOST_ALWAYS = {"positive-counters", "working-registers", "ring-bases", "csr103"}
"""Rows that the reading of all registers at the end of any sequence needs."""


def test_every_row_is_planted() -> None:
    """No row is without a sequence, none is there twice, and no sequence is without a row."""
    assert sorted(NAMES) == sorted(PLANTED)


@pytest.mark.parametrize("row", KNOWN_ERRORS, ids=NAMES)
def test_every_row_was_checked(row: KnownError) -> None:
    """No row rests on the two models alone: it names a page, a driver or another emulator that was asked."""
    asked = ("data sheet", "Am79C9", "Linux'", "OpenBSD's", "FreeBSD's", "86Box", "VirtualBox", "MAME")
    assert any(source in row.checked for source in asked)


@pytest.mark.parametrize("name", NAMES)
def test_row_explains_what_it_is_for(qemu: QemuMachine, name: str) -> None:
    """With the whole table nothing differs, and the row has had a part in that."""
    comparison = Comparison(qemu)
    comparison.run(PLANTED[name])
    assert name in comparison.used


@pytest.mark.parametrize("name", NAMES)
def test_row_is_needed(qemu: QemuMachine, name: str) -> None:
    """Without the row the same sequence differs: it is no mask for something that has been mended."""
    comparison = Comparison(qemu, [row for row in KNOWN_ERRORS if row.name != name])
    with pytest.raises(Difference):
        comparison.run(PLANTED[name])


@pytest.mark.parametrize("name", NAMES)
def test_row_is_silent_elsewhere(qemu: QemuMachine, name: str) -> None:
    """A chip that is only brought up and read needs none but the few rows about registers as such."""
    comparison = Comparison(qemu)
    comparison.run([])
    assert name not in comparison.used or name in ALMOST_ALWAYS


def test_document_has_the_table() -> None:
    """docs/differential.md ends with the table as it is."""
    document = (Path(__file__).parents[2] / "docs" / "differential.md").read_text()
    assert document.endswith(f"## Known errors of QEMU's pcnet\n\n{markdown()}")
