"""What every benchmark writes: tidy JSON, one sample a measured value, complete or marked as partial.

``{"bench", "settings", "machine", "complete", "samples": [{"configuration", "metric", "unit", "value", "run", ...}]}``

A sample that was measured on real machines says what they did besides (``lab.load.disturbance``: "window_seconds",
"cpus", "cpu_others_percent", "cpu_steal_percent", "cpu_pressure_percent"), how often it was tried again ("retries"),
and, if its own counters contradict it, ``"valid": false`` and a "reason".
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from lab.bench.remarks import is_valid, remarks_on, runs_missing
from lab.bench.rounds import Progress
from lab.bench.tables import warn
from lab.outfile import OutFile
from lab.readings import median, percentile
from machine.errors import BenchError

__all__ = ["Recorder", "machine_facts", "median", "percentile", "source_digest"]

_SOURCES: Final = ("guest", "lab", "machine", "netbackend", "vmapp", "vmm")
_DIGITS: Final = 12
_PACKAGES: Final = ("worldswitch", "pyroute2", "posix_ipc", "msgpack", "psutil")


def machine_facts() -> dict[str, Any]:
    """What a reader must know of the machine: processor, kernel, Python, versions."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "processor": model,
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "source": source_digest(),
    }


def source_digest() -> str:
    """Tells one state of the code from another, committed or not: of all modules, SHA-256, its first digits."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in _SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:_DIGITS]


class Recorder:
    """Collects samples and writes them; a run that ends early leaves ``complete`` false in the file."""

    def __init__(
        self, bench: str, settings: dict[str, Any], path: str | Path | None, progress: Progress | None = None
    ) -> None:
        """``path``: where to write; a bad one is refused at once, before anything is measured (``lab.outfile``).

        ``progress``: of the benchmark; results are complete once everything was measured, even if what comes
        afterwards, such as the removal of a namespace, then fails.
        """
        self.samples: list[dict[str, Any]] = []
        self._progress = progress
        self._head = {"bench": bench, "settings": settings, "machine": machine_facts()}
        self._settings = settings
        self._out = None if path is None else OutFile(path, BenchError)

    def add(self, configuration: str, metric: str, unit: str, value: float, run: int, **keys: Any) -> None:
        """One measured value; ``keys`` say what else distinguishes it (direction, link, doorbell, ...)."""
        self.samples.append(
            {"configuration": configuration, "metric": metric, "unit": unit, "value": value, "run": run} | keys
        )

    def values(self, **keys: Any) -> list[float]:
        """The values of every valid sample that has all of ``keys``, in the order of measurement."""
        return [
            s["value"] for s in self.samples if is_valid(s) and all(s.get(key) == value for key, value in keys.items())
        ]

    def missing(self) -> str | None:
        """Why the results are not complete although the benchmark came to its end; None if they are."""
        if not self.samples:
            return "nothing was measured"
        if remarks_on(self.samples).invalid:
            return "what is invalid is missing"
        fewer = runs_missing(self.samples, self._settings.get("runs"))
        return f"{fewer} measurements fewer than asked for" if fewer else None

    @property
    def status(self) -> int:
        """The benchmark's exit status, once it has come to its end."""
        return 1 if self.missing() else 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        missing = self.missing()
        ended = kind is None or (self._progress is not None and self._progress.finished)
        try:  # what was measured is kept, even if nobody reads the remarks any more
            self._remark(missing if ended else None)
        finally:
            if self._out is not None:
                try:
                    self._write(self._out, complete=ended and missing is None)
                finally:
                    self._out.close()

    def _remark(self, missing: str | None) -> None:
        for line in remarks_on(self.samples).lines:
            warn(line)
        if missing is not None:
            warn(f"NOT COMPLETE: {missing}")

    def _write(self, out: OutFile, *, complete: bool) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        record = self._head | {"written": now, "complete": complete, "samples": self.samples}
        out.write((json.dumps(record, indent=1) + "\n").encode())
