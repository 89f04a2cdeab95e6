"""The fuzzer of the device alone, for a bounded time."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("WORLDSWITCH_FUZZ_SECONDS", "15"))
LONGEST_INPUT_S = 5  # an input that takes longer has found something
LEAST_RUNS = 5 * SECONDS


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (no wheel for it)")
@pytest.mark.timeout(SECONDS + 100)
def test_device_survives_fuzzing(tmp_path: Path) -> None:
    """Coverage-guided guests: no exception, no hang, registers of 16 bits, a bounded number of frames per step."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for seed in range(8):
        (corpus / f"seed-{seed}").write_bytes(Random(seed).randbytes(2000))
    options = [
        f"-max_total_time={SECONDS}",
        f"-timeout={LONGEST_INPUT_S}",
        "-max_len=4000",
        f"-artifact_prefix={tmp_path}/",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "tests.differential.device_bytes", str(corpus), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 60,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
    runs = re.search(r"Done (\d+) runs", result.stderr)
    assert runs is not None
    assert int(runs[1]) > LEAST_RUNS
