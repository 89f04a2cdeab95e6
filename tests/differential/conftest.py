"""The oracle: one QEMU for all tests of a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from machine.errors import SetupError
from tests.differential.qemumachine import QemuMachine, qemu_machine
from tests.differential.qtest import find_qemu


@pytest.fixture(scope="session")
def qemu() -> Iterator[QemuMachine]:
    """QEMU's pcnet; skips where there is no QEMU, unless WORLDSWITCH_REQUIRE_GUEST=1."""
    try:
        find_qemu()
    except SetupError as error:
        if os.environ.get("WORLDSWITCH_REQUIRE_GUEST") == "1":
            raise
        pytest.skip(str(error))
    with qemu_machine() as machine:
        yield machine
