"""Tests with a stock guest need its image (scripts/setup-guest) and what integration tests need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guestimage import find_image
from machine.config import MODES
from machine.errors import SetupError
from tests.guest.machine import StockGuest, running

HERE = Path(__file__).parent
REQUIRE = "WORLDSWITCH_REQUIRE_GUEST"


def why_not() -> str | None:
    """The reason why there is no stock guest; None if there is one."""
    if os.geteuid() != 0:
        return "needs root (network namespaces, TAPs)"
    try:
        find_image()
    except SetupError as error:
        return str(error)
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is in this folder; WORLDSWITCH_REQUIRE_GUEST=1 turns the skip into a failure."""
    reason = None if os.environ.get(REQUIRE) == "1" else why_not()
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.guest)
        item.add_marker(pytest.mark.integration)  # so tests/conftest.py looks for leftovers
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", params=tuple(MODES))
def guest(request: pytest.FixtureRequest) -> Iterator[StockGuest]:
    """A stock guest in each mode, started once for all tests in it."""
    with running("--profile", "fast", "--link", "none", "--mode", request.param) as made:
        yield made
