"""The fuzzer of the vfio-user server, for a bounded time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.kit.fuzzing import fuzz, fuzz_seconds, needs_atheris

SECONDS: Final = fuzz_seconds(20)
LEAST_RUNS: Final = 50 * SECONDS  # some 2000 a second on an idle machine


@needs_atheris
@pytest.mark.timeout(SECONDS + 100)
def test_vfio_user_survives_fuzzing(tmp_path: Path) -> None:
    """Coverage-guided inputs, begun from good messages: no exception, hang or leak, and the next client is served."""
    assert fuzz("tests.fuzz.vfio_user_bytes", tmp_path, SECONDS) > LEAST_RUNS
