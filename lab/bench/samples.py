"""What every benchmark writes: tidy JSON, one sample a measured value, complete or marked as partial.

``{"bench", "settings", "machine", "complete", "samples": [{"configuration", "metric", "unit", "value", "run", ...}]}``
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from lab.outfile import OutFile
from machine.errors import BenchError

__all__ = ["Recorder", "machine_facts", "median", "percentile"]

_PACKAGES: Final = ("worldswitch", "pyroute2", "posix_ipc", "msgpack", "psutil")


def median(values: Iterable[float]) -> float:
    """The middle value; of two, their mean."""
    return statistics.median(values)


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that ``percent`` of all values do not exceed (nearest rank); the values need no order."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


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
    }


class Recorder:
    """Collects samples and writes them; a run that ends early leaves ``complete`` false in the file."""

    def __init__(self, bench: str, settings: dict[str, Any], path: str | Path | None) -> None:
        """``path``: where to write; a bad one is refused at once, before anything is measured (``lab.outfile``)."""
        self.samples: list[dict[str, Any]] = []
        self._head = {"bench": bench, "settings": settings, "machine": machine_facts()}
        self._out = None if path is None else OutFile(path, BenchError)

    def add(self, configuration: str, metric: str, unit: str, value: float, run: int, **keys: Any) -> None:
        """One measured value; ``keys`` say what else distinguishes it (direction, link, doorbell, ...)."""
        self.samples.append(
            {"configuration": configuration, "metric": metric, "unit": unit, "value": value, "run": run} | keys
        )

    def values(self, **keys: Any) -> list[float]:
        """The values of every sample that has all of ``keys``, in the order of measurement."""
        return [s["value"] for s in self.samples if all(s.get(key) == value for key, value in keys.items())]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._out is not None:
            try:
                self._write(self._out, complete=kind is None)
            finally:
                self._out.close()

    def _write(self, out: OutFile, *, complete: bool) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        record = self._head | {"written": now, "complete": complete, "samples": self.samples}
        out.write((json.dumps(record, indent=1) + "\n").encode())
