"""The fuzzer of the vfio-user server, for a bounded time."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = int(os.environ.get("WORLDSWITCH_FUZZ_SECONDS", "20"))
LONGEST_INPUT_S: Final = 5  # an input that takes longer has found something
LEAST_RUNS: Final = 50 * SECONDS  # some 2000 a second on an idle machine


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (no wheel for it)")
@pytest.mark.timeout(SECONDS + 100)
def test_vfio_user_survives_fuzzing(tmp_path: Path) -> None:
    """Coverage-guided inputs, begun from good messages: no exception, hang or leak, and the next client is served."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    options = [f"-max_total_time={SECONDS}", f"-timeout={LONGEST_INPUT_S}", f"-artifact_prefix={tmp_path}/"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.vfio_user_bytes", str(corpus), *options],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 60,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
    runs = re.search(r"Done (\d+) runs", result.stderr)
    assert runs is not None
    assert int(runs[1]) > LEAST_RUNS
