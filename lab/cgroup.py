"""A control group that holds processes to a share of CPU time, by CFS bandwidth control, on cgroup v1 or v2.

Source: Documentation/scheduler/sched-bwc.rst, admin-guide/cgroup-v1/cgroups.rst and admin-guide/cgroup-v2.rst of the
kernel. The group is made directly below the hierarchy's mount point, and gone when its ``with`` block ends.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine.errors import SetupError

__all__ = ["Controller", "CpuGroup", "find_controller", "membership"]

_PERIOD_US: Final = 10_000  # the kernel's default of 100 ms would make a slow machine one that stops and goes
_MEMBERS: Final = "cgroup.procs"
_SUBTREE: Final = "cgroup.subtree_control"
_REMEDY: Final = "the benchmark of a slower CPU needs the kernel's cpu controller, mounted writable"


@dataclass(frozen=True, slots=True)
class Controller:
    """Where the hierarchy with the ``cpu`` controller is mounted, and its version, 1 or 2."""

    version: int
    path: Path


def find_controller(mountinfo: str, offered: str) -> Controller:
    """From the text of /proc/self/mountinfo; ``offered``: controllers that v2 has (cgroup.controllers). SetupError.

    v1 wins where both are mounted: a controller is in one hierarchy only, and v2 would not offer it.
    """
    unified: Path | None = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2) if rest.count(" ") >= 2 else ("", "", "")
        path = Path(fields.split()[4].encode().decode("unicode_escape"))  # a space is written \040
        if kind == "cgroup" and "cpu" in options.split(","):
            return Controller(1, path)
        if kind == "cgroup2" and "cpu" in offered.split():
            unified = path
    if unified is None:
        raise SetupError(f"no control group hierarchy here has the cpu controller: {_REMEDY}")
    return Controller(2, unified)


def membership(text: str, version: int) -> str:
    """The group a process is in, relative to the mount point, from the text of its /proc/PID/cgroup."""
    for line in text.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if (version == 1 and "cpu" in controllers.split(",")) or (version == 2 and hierarchy == "0"):
            return path.lstrip("/")
    return ""


class CpuGroup:
    """The group ``name``, whose processes get ``cpus`` CPUs' worth of time (0.5: half of one) between them.

    A context manager; at its end every process that is still there goes back to the group it came from.
    """

    def __init__(self, name: str, cpus: float, controller: Controller | None = None) -> None:
        """SetupError if this machine has no cpu controller; nothing is made yet."""
        self._controller = _here() if controller is None else controller
        self._path = self._controller.path / name
        self._quota_us = max(1000, int(_PERIOD_US * cpus))  # less than 1 ms the kernel refuses
        self._origins: dict[int, str] = {}
        self._enabled = False

    def __enter__(self) -> CpuGroup:
        """Makes the group; SetupError in one line if the kernel won't."""
        try:
            self._enable()
            self._path.mkdir()
            self._limit()
        except OSError as error:
            self._remove()
            raise SetupError(f"cannot make control group {self._path}: {error.strerror}; {_REMEDY}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def take(self, pid: int) -> None:
        """Holds a process (all its threads, and children that it makes from now on); one that has ended is ignored."""
        try:
            origin = membership(Path(f"/proc/{pid}/cgroup").read_text(), self._controller.version)
            self._origins.setdefault(pid, origin)
            _write(self._path / _MEMBERS, str(pid))
        except (FileNotFoundError, ProcessLookupError):
            return
        except OSError as error:
            raise SetupError(f"cannot move process {pid} to {self._path}: {error.strerror}; {_REMEDY}") from error

    @property
    def members(self) -> list[int]:
        """Processes in the group."""
        return [int(pid) for pid in (self._path / _MEMBERS).read_text().split()]

    def _enable(self) -> None:
        """v2: children of the root have the controller only if the root's subtree_control says so."""
        control = self._controller.path / _SUBTREE
        if self._controller.version == 2 and "cpu" not in control.read_text().split():
            _write(control, "+cpu")
            self._enabled = True

    def _limit(self) -> None:
        if self._controller.version == 2:
            _write(self._path / "cpu.max", f"{self._quota_us} {_PERIOD_US}")
            return
        _write(self._path / "cpu.cfs_period_us", str(_PERIOD_US))
        _write(self._path / "cpu.cfs_quota_us", str(self._quota_us))

    def _remove(self) -> None:
        """Gives the processes back; what cannot go back goes to the root, and a group that is gone is fine."""
        root = self._controller.path
        with suppress(OSError):
            for pid in self.members:
                origin = root / self._origins.get(pid, "") / _MEMBERS
                with suppress(OSError):
                    _write(origin if origin.exists() else root / _MEMBERS, str(pid))
        with suppress(OSError):
            self._path.rmdir()
        if self._enabled:
            with suppress(OSError):
                _write(root / _SUBTREE, "-cpu")
            self._enabled = False


def _here() -> Controller:
    mounts = Path("/proc/self/mountinfo").read_text()
    offered = ""
    for line in mounts.splitlines():
        if " - cgroup2 " in line:
            with suppress(OSError):
                offered = Path(line.split()[4], "cgroup.controllers").read_text()
    return find_controller(mounts, offered)


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never creates: a file that is not there is not a control file
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
