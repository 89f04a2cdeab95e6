"""Whether a machine was busy with something else while it was measured.

A figure that was taken while a third party had a part of the CPU says nothing about the stack, and looks like one
that does. So with each measurement go: the share of the measured CPUs' time that others had, the share that the
hypervisor took (steal), and the kernel's own pressure figure.

Others' time is what is left when that of the measured is taken away: of the stack's processes, of the load's programs
(``lab.load.place``, which mark them), and of this process, which reads counters. It is a lower bound: interrupts are
nobody's, for the kernel may or may not book them on the process that they interrupt (CONFIG_IRQ_TIME_ACCOUNTING), so
they count as the stack's. Programs that cannot run on the measured CPUs, as the peer's where there is more than one
CPU, have no part in it.

Sources: proc(5), /proc/stat and /proc/PID/stat; Documentation/accounting/psi.rst of the kernel.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from lab.load.cpu import CpuTicks, CpuUse, watched
from lab.load.place import is_load

__all__ = [
    "BUSY_PERCENT",
    "FIELDS",
    "Attended",
    "Conditions",
    "attended",
    "busy_limit",
    "busy_text",
    "conditions_of",
    "others_share",
    "own_seconds",
    "parse_pressure",
    "process_seconds",
]

BUSY_PERCENT: Final = 5.0
"""From this share of the measured CPUs' time on, what others and the hypervisor took is said beside the figure.

Less is noise: /proc/stat counts in ticks of 10 ms, of which a measurement of one second has a hundred (``busy_limit``).
"""

FIELDS: Final = ("window_seconds", "cpus", "cpu_others_percent", "cpu_steal_percent", "cpu_pressure_percent")
"""What ``Conditions.as_fields`` adds to every sample."""

_PRESSURE: Final = Path("/proc/pressure/cpu")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UNSURE_TICKS: Final = 4  # one for the CPU, and about three for the processes, each of which is rounded by itself
_US: Final = 1e6
_PERCENT: Final = 100.0
_DIGITS: Final = 2
# Of /proc/PID/stat, counted from after the name: utime, stime, and those of children that were waited for.
_TIMES: Final = slice(11, 15)


@dataclass(frozen=True, slots=True)
class Conditions:
    """One interval. ``others``, ``steal``: shares (0 to 1) of the time of ``cpus``. ``pressure``: of the interval.

    ``pressure`` is the share of the interval in which some task of the machine waited for a CPU (PSI's "some"); the
    stack's processes wait for each other, too, so it is kept and judges nothing. None where the kernel has no PSI.
    """

    cpus: tuple[int, ...]
    seconds: float
    others: float
    steal: float
    pressure: float | None

    @property
    def busy(self) -> str | None:
        """``busy_text`` of it."""
        fields = self.as_fields()
        return busy_text(self.others * _PERCENT, self.steal * _PERCENT, str(fields["cpus"]), self.seconds)

    def as_fields(self) -> dict[str, float | str | None]:
        """For a sample: plain values, units in their names (``FIELDS``)."""
        return {
            "window_seconds": round(self.seconds, 3),
            "cpus": ",".join(map(str, self.cpus)),
            "cpu_others_percent": round(self.others * _PERCENT, _DIGITS),
            "cpu_steal_percent": round(self.steal * _PERCENT, _DIGITS),
            "cpu_pressure_percent": None if self.pressure is None else round(self.pressure * _PERCENT, _DIGITS),
        }


def busy_limit(seconds: float) -> float:
    """``BUSY_PERCENT``, or, of an interval that is too short for it, what a few ticks of /proc/stat make of it."""
    return max(BUSY_PERCENT, _PERCENT * _UNSURE_TICKS / (seconds * _TICKS)) if seconds > 0 else math.inf


def busy_text(others_percent: float, steal_percent: float, cpus: str, seconds: float) -> str | None:
    """What is said if others and the hypervisor took too much, "BUSY: 31 % of CPU 0 was others'"; else None."""
    if others_percent + steal_percent < busy_limit(seconds):
        return None
    name = f"CPU{'s' if ',' in cpus else ''} {cpus}"
    parts = []
    if others_percent >= 1 or others_percent >= steal_percent:
        parts.append(f"{others_percent:.0f} % of {name} was others'")
    if steal_percent >= 1:
        parts.append(f"{steal_percent:.0f} % of {name} was the hypervisor's")
    return f"BUSY: {', '.join(parts)}"


@dataclass(slots=True)
class Attended:
    """What ``attended`` fills in when its block has ended. ``use``: where the time of the CPUs went."""

    use: CpuUse = field(default_factory=CpuUse)
    conditions: Conditions | None = None


@contextmanager
def attended(cpus: Sequence[int], pids: Sequence[int] = ()) -> Iterator[Attended]:
    """Watches ``cpus`` during the block. ``pids``: of the processes that are measured, besides the load's programs.

    Nothing is known (``conditions`` None) after an exception. ConfigError for an unknown CPU.
    """
    seen = Attended()
    own, pressure = own_seconds(cpus, pids), _pressure()
    with watched(cpus) as use:
        yield seen
    spent = own_seconds(cpus, pids) - own
    seen.use = use
    seen.conditions = conditions_of(use, spent, pressure, _pressure())


def conditions_of(use: CpuUse, own: float, before: int | None, after: int | None) -> Conditions:
    """From an interval: what the CPUs did, CPU seconds of the measured processes, PSI's total (us) at both ends."""
    cpus = tuple(sorted(use.spent))
    pressure = None
    if before is not None and after is not None and use.seconds > 0:
        pressure = min(1.0, max(0, after - before) / _US / use.seconds)
    stolen = sum(ticks.steal for ticks in use.spent.values()) / _TICKS
    return Conditions(
        cpus=cpus,
        seconds=use.seconds,
        others=others_share(use.spent.values(), use.seconds, own),
        steal=_of(stolen, use.seconds * len(cpus)),
        pressure=pressure,
    )


def others_share(spent: Iterable[CpuTicks], seconds: float, own: float) -> float:
    """The share of the CPUs' time (0 to 1) that neither ``own`` CPU seconds nor idling, interrupts, steal explain.

    Idle time is taken, not that of users and system: the kernel measures the one, and samples the others at its tick.
    """
    every = list(spent)
    whole = seconds * len(every)
    explained = sum(ticks.idle + ticks.steal + ticks.irq + ticks.softirq for ticks in every) / _TICKS
    return _of(whole - explained - own, whole)


def _of(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


def parse_pressure(text: str) -> int | None:
    """PSI's total of "some", us since boot, from the text of /proc/pressure/cpu; None if it isn't there."""
    for line in text.splitlines():
        kind, *words = line.split() or [""]
        for word in words if kind == "some" else ():
            name, _, value = word.partition("=")
            if name == "total" and value.isdecimal():
                return int(value)
    return None


def _pressure() -> int | None:
    """None without CONFIG_PSI, and with psi=0: the file is missing then, or refuses to be read."""
    try:
        return parse_pressure(_PRESSURE.read_text())
    except OSError:
        return None


def own_seconds(cpus: Sequence[int], pids: Sequence[int] = ()) -> float:
    """CPU seconds so far of this process, of ``pids``, and of the load's programs that may run on ``cpus``.

    With those of children that this process has waited for: a program that ends meanwhile takes nothing away.
    """
    measured = set(cpus)
    found = _seconds(os.getpid())
    for pid in {*pids, *_programs()}:
        with suppress(OSError):
            if os.sched_getaffinity(pid) & measured:
                found += _seconds(pid)
    return found


def _programs() -> list[int]:
    """The load's programs among this process's descendants; another child, such as a user's own, is none."""
    try:
        return [child.pid for child in psutil.Process().children(recursive=True) if is_load(child.pid)]
    except psutil.Error:
        return []


def _seconds(pid: int) -> float:
    try:
        return process_seconds(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except OSError:
        return 0.0


def process_seconds(text: str) -> float:
    """User and system time of a process and of its children that are gone, from the text of its /proc/PID/stat."""
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return sum(map(int, fields[_TIMES])) / _TICKS
