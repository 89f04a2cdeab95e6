"""Whether perf can see Python functions: the interpreter's perf trampolines (Python >= 3.12, ``-X perf``).

A trampoline gives each Python function a few machine instructions of its own, named in /tmp/perf-PID.map. perf
follows the stack by frame pointers, so the interpreter must have been built with them. Source: Python's HOWTO
"Python support for the Linux perf profiler".
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from machine.errors import ConfigError

__all__ = ["INTERPRETER_OPTIONS", "check_perf_frames", "remove_maps"]

INTERPRETER_OPTIONS: Final = ("-X", "perf")

_FIRST_VERSION: Final = (3, 12)
_FLAG: Final = "-fno-omit-frame-pointer"
_MAP: Final = "/tmp/perf-{}.map"


def check_perf_frames() -> None:
    """ConfigError, one line, where perf could not see Python functions."""
    here = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    instead = "leave --profiling out: `worldswitch profile` then uses py-spy"
    if sys.version_info < _FIRST_VERSION:
        raise ConfigError(f"{here} has no -X perf, which came with 3.12; {instead}")
    if not _has_frame_pointers():
        raise ConfigError(f"this {here} was built without frame pointers ({_FLAG}), which perf needs; {instead}")


def _has_frame_pointers() -> bool:
    return any(_FLAG in str(value) for value in sysconfig.get_config_vars("CFLAGS", "PY_CORE_CFLAGS", "CONFIG_ARGS"))


def remove_maps(pids: Iterable[int]) -> None:
    """Removes the maps that processes started with ``INTERPRETER_OPTIONS`` have left."""
    for pid in pids:
        Path(_MAP.format(pid)).unlink(missing_ok=True)
