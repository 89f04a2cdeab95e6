"""The fuzzer of the device alone, for a bounded time."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.kit.fuzzing import fuzz, fuzz_seconds, needs_atheris

SECONDS: Final = fuzz_seconds(15)
LEAST_RUNS: Final = 5 * SECONDS


@needs_atheris
@pytest.mark.timeout(SECONDS + 100)
def test_device_survives_fuzzing(tmp_path: Path) -> None:
    """Coverage-guided guests: no exception, no hang, registers of 16 bits, a bounded number of frames per step."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for seed in range(8):
        (corpus / f"seed-{seed}").write_bytes(Random(seed).randbytes(2000))
    assert fuzz("tests.differential.device_bytes", tmp_path, SECONDS, "-max_len=4000") > LEAST_RUNS
