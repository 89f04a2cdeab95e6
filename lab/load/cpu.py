"""Where processor time went: each CPU by kind, each process by user and system.

Source: proc(5), /proc/stat. The kernel counts in ticks of 10 ms, so an interval of 1 s is known to about a percent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import psutil

from machine.errors import ConfigError

__all__ = ["CpuShare", "CpuTicks", "CpuUse", "ProcessTime", "parse_stat", "passed", "share", "watched"]

_STAT: Final = Path("/proc/stat")


class CpuTicks(NamedTuple):
    """What one CPU has done since boot, in ticks. ``user``: niced and guest's included; ``idle``: I/O wait too."""

    user: int
    system: int
    irq: int
    softirq: int
    steal: int
    idle: int


@dataclass(frozen=True, slots=True)
class CpuShare:
    """The same of an interval, as shares of it (0 to 1); all 0 if the interval was shorter than a tick."""

    user: float
    system: float
    irq: float
    softirq: float
    steal: float
    idle: float

    @property
    def busy(self) -> float:
        """What this machine ran; time that the hypervisor took away is neither busy nor idle."""
        return self.user + self.system + self.irq + self.softirq


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """CPU time of a process, in seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system


@dataclass(slots=True)
class CpuUse:
    """One interval; filled in when it has ended. ``processes`` lacks those that ended before the interval did.

    ``spent``: the ticks of which ``cpus`` are the shares.
    """

    seconds: float = 0.0
    cpus: dict[int, CpuShare] = field(default_factory=dict)
    processes: dict[str, ProcessTime] = field(default_factory=dict)
    spent: dict[int, CpuTicks] = field(default_factory=dict)


def parse_stat(text: str) -> dict[int, CpuTicks]:
    """Every CPU that is online, from the text of /proc/stat."""
    found: dict[int, CpuTicks] = {}
    for line in text.splitlines():
        name, *numbers = line.split()
        if not name.startswith("cpu") or name == "cpu":
            continue
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, numbers[:8])  # guest is within user
        found[int(name[3:])] = CpuTicks(user + nice, system, irq, softirq, steal, idle + iowait)
    return found


def passed(before: CpuTicks, after: CpuTicks) -> CpuTicks:
    """The ticks between two readings. The kernel may correct idle downwards; that counts as none."""
    return CpuTicks(*(max(0, last - first) for first, last in zip(before, after, strict=True)))


def share(before: CpuTicks, after: CpuTicks) -> CpuShare:
    """What the CPU did between two readings."""
    spent = passed(before, after)
    total = sum(spent) or 1
    return CpuShare(*(ticks / total for ticks in spent))


@contextmanager
def watched(cpus: Sequence[int], pids: Mapping[str, int] = MappingProxyType({})) -> Iterator[CpuUse]:
    """What ``cpus`` and the processes ``pids`` (name -> pid) do during the block. ConfigError for an unknown CPU."""
    use = CpuUse()
    processes = {name: process for name, pid in pids.items() if (process := _process(pid)) is not None}
    times = {name: _time(process) for name, process in processes.items()}
    ticks = _read(cpus)
    started = time.monotonic()
    yield use
    use.seconds = time.monotonic() - started
    now = _read(cpus)
    use.cpus = {cpu: share(ticks[cpu], after) for cpu, after in now.items()}
    use.spent = {cpu: passed(ticks[cpu], after) for cpu, after in now.items()}
    for name, process in processes.items():
        before, after = times[name], _time(process)
        if before is not None and after is not None:
            use.processes[name] = ProcessTime(after.user - before.user, after.system - before.system)


def _read(cpus: Sequence[int]) -> dict[int, CpuTicks]:
    every = parse_stat(_STAT.read_text())
    missing = [cpu for cpu in cpus if cpu not in every]
    if missing:
        raise ConfigError(f"there is no CPU {missing[0]}; this machine has {', '.join(map(str, every))}")
    return {cpu: every[cpu] for cpu in cpus}


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _time(process: psutil.Process) -> ProcessTime | None:
    try:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return None
        times = process.cpu_times()
    except psutil.Error:
        return None
    return ProcessTime(times.user, times.system)
