"""The oracle: one QEMU for all tests of a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from machine.errors import SetupError
from tests.differential.qemumachine import QemuMachine, qemu_machine


@pytest.fixture(scope="session")
def qemu() -> Iterator[QemuMachine]:
    """QEMU's pcnet; skips where there is no QEMU that can do this, unless WORLDSWITCH_REQUIRE_GUEST=1."""
    with ExitStack() as stack:
        try:
            machine = stack.enter_context(qemu_machine())
        except SetupError as error:
            if os.environ.get("WORLDSWITCH_REQUIRE_GUEST") == "1":
                raise
            pytest.skip(str(error))
        yield machine
