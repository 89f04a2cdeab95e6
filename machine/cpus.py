"""Which CPUs this process may use, at the moment of the question.

The answer is the scheduler's affinity mask: what ``taskset`` or a parent has left, within the cpuset of the control
group, without CPUs that were unplugged. It may change while a process runs, and in guest, vmm and vmapp it does: they
are pinned. So nobody keeps the answer in a constant, and only what a user asks for is held against it.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from machine.errors import ConfigError

__all__ = ["allowed_cpus", "check_allowed", "parse_cpus"]

_NUMBER: Final = re.compile(r"[0-9]{1,6}")  # as the kernel writes it; int() would take "1_0" and " 1" too


def allowed_cpus() -> tuple[int, ...]:
    """The CPUs of this process in ascending order; at least one."""
    return tuple(sorted(os.sched_getaffinity(0)))


def parse_cpus(value: Any) -> tuple[int, ...]:
    """The CPUs that ``"0,1"`` or ``[0, 1]`` names; ConfigError if it is no such list."""
    if isinstance(value, str):
        words = value.split(",")
        if all(_NUMBER.fullmatch(word) for word in words):
            return tuple(map(int, words))
    elif isinstance(value, list | tuple) and all(type(item) is int for item in value):
        return tuple(value)
    raise ConfigError(f"bad cpus {value!r}: a list such as 0 or 0,1")


def check_allowed(cpus: tuple[int, ...]) -> None:
    """ConfigError, one line, if this process may not use one of ``cpus``."""
    allowed = allowed_cpus()
    missing = [cpu for cpu in cpus if cpu not in allowed]
    if missing:
        raise ConfigError(
            f"bad cpus {_listed(cpus)!r}: CPU {_listed(tuple(missing))} is not among those that this process may use, "
            f"{_listed(allowed)} (they are what the machine has online, taskset and the control group's cpuset leave)"
        )


def _listed(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus))
