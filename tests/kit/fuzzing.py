"""Runs a coverage-guided fuzzer (atheris) for a bounded time, as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

__all__ = ["fuzz", "fuzz_seconds", "needs_atheris"]

_ROOT: Final = Path(__file__).parents[2]
_LONGEST_INPUT_S: Final = 5  # an input that takes longer has found something
_SPARE_S: Final = 60

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (no wheel for it)"
)


def fuzz_seconds(default: int) -> int:
    """How long to fuzz: as WORLDSWITCH_FUZZ_SECONDS says, or ``default``."""
    return int(os.environ.get("WORLDSWITCH_FUZZ_SECONDS", default))


def fuzz(module: str, folder: Path, seconds: int, *options: str) -> int:
    """Runs the fuzzer ``module`` on ``folder``/corpus; how many inputs it tried. What it found fails the test."""
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    limits = (f"-max_total_time={seconds}", f"-timeout={_LONGEST_INPUT_S}", f"-artifact_prefix={folder}/")
    result = subprocess.run(
        [sys.executable, "-m", module, str(corpus), *limits, *options],
        cwd=_ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + _SPARE_S,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
    runs = re.search(r"Done (\d+) runs", result.stderr)
    assert runs is not None
    return int(runs[1])
