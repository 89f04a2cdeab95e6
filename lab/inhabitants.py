"""Programs that run on a stack's machines: whoever is in one of its network namespaces, found and ended.

``worldswitch exec`` becomes the program that it starts, so nobody is its parent who would end it with the stack: a
daemon lives on in a namespace without a name, keeps it, and answers nobody. A process's namespace is known by the
device and inode of /proc/PID/ns/net (namespaces(7)). Only namespaces that are still under their names count: the
numbers of one that is gone may be another's by now, of a container say.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from lab.processes import is_alive
from lab.rundir import Record, RunDirectory
from machine.errors import SetupError
from netbackend import namespaces

__all__ = ["Program", "at_home", "end_programs", "lineage", "listed", "programs", "spare", "spared_by_down"]

_GRACE_SECONDS: Final = 2.0  # between SIGTERM and SIGKILL
_KILL_SECONDS: Final = 3.0  # for programs that start others as quickly as they are killed
_LOOK_SECONDS: Final = 0.02
_MOST_NAMED: Final = 5
_LONGEST_NAME: Final = 32
_MANY: Final = 100  # more than these are nobody's daemons, and are not waited for
_ALL: Final = "all"

Identity = namespaces.NamespaceId


@dataclass(frozen=True, slots=True)
class Program:
    """A process on machine ``machine`` (guest, host, ...)."""

    pid: int
    name: str
    machine: str


def spare(directory: RunDirectory, pids: Collection[int] | None) -> None:
    """Tells whoever removes the stack, the supervisor as a rule, not to end these programs; None: any program.

    It knows neither what the user wants nor whose shell it is in which he has typed `down`. Nobody to spare is said
    without writing anything: a stack can be taken down although the file system of its directory is full.
    """
    try:
        if pids is not None and not pids:
            directory.spared.unlink(missing_ok=True)
            return
        directory.spared.write_text(_ALL if pids is None else " ".join(map(str, pids)))
    except FileNotFoundError:
        pass  # the stack has ended meanwhile
    except OSError as error:
        raise SetupError(f"cannot write {directory.spared}: {error.strerror}") from None


def spared_by_down(directory: RunDirectory) -> set[int] | None:
    """What ``spare`` was told; nobody by default."""
    try:
        text = directory.spared.read_text(errors="replace")
    except OSError:
        return set()
    return None if text == _ALL else {int(word) for word in text.split() if word.isdecimal()}


def at_home(record: Record, pids: Iterable[int]) -> set[int]:
    """Those of ``pids`` that live on the machines of the stack of ``record``."""
    spaces = _spaces(record)
    return set(pids) & _found(spaces, set()).keys() if spaces else set()


def lineage() -> set[int]:
    """The pids of this process and its ancestors: whoever waits for it, as a shell does."""
    found = set()
    pid = os.getpid()
    while pid > 0:
        found.add(pid)
        pid = _parent(pid)
    return found


def programs(record: Record) -> list[Program]:
    """Who runs on the machines of the stack of ``record``, but for its own processes, this one, and its ancestors."""
    spaces = _spaces(record)
    found = _found(spaces, _own(record)) if spaces else {}
    return [Program(pid, _name(pid), machine) for pid, machine in sorted(found.items())]


def listed(found: Iterable[Program]) -> str:
    """Some of them by name, for one line."""
    every = list(found)
    words = [f"{program.name} (pid {program.pid}, {program.machine})" for program in every[:_MOST_NAMED]]
    if len(every) > _MOST_NAMED:
        words.append(f"{len(every) - _MOST_NAMED} more")
    return ", ".join(words)


def end_programs(record: Record, spared: Iterable[int] = ()) -> tuple[list[Program], list[Program]]:
    """Ends them, gently and then not, but for ``spared``; (all that were there, those that do not end).

    It takes some seconds at most, whatever they do.
    """
    spaces, spared = _spaces(record), {*spared, *_own(record)}
    seen: dict[int, Program] = {}

    def look() -> list[int]:
        found = _found(spaces, spared)
        seen.update((pid, Program(pid, _name(pid), machine)) for pid, machine in found.items() if pid not in seen)
        return list(found)

    left = look() if spaces else []
    for number in (signal.SIGTERM, signal.SIGCONT):  # one that is stopped would not hear of it
        _signal(left, spaces, number)
    deadline = time.monotonic() + (_GRACE_SECONDS if len(left) <= _MANY else 0.0)
    while (left := look() if left else []) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    deadline = time.monotonic() + _KILL_SECONDS
    while left and time.monotonic() < deadline:
        _kill(left, look, spaces, deadline)
        time.sleep(_LOOK_SECONDS)
        left = look()
    return list(seen.values()), [seen[pid] for pid in left]


def _kill(found: list[int], look: Callable[[], list[int]], spaces: dict[Identity, str], deadline: float) -> None:
    """Stops all of them before the first is killed, so that none is left running that starts others in their place."""
    stopped: set[int] = set()
    while (new := set(found) - stopped) and time.monotonic() < deadline:
        _signal(new, spaces, signal.SIGSTOP)
        stopped |= new
        found = look()
    _signal(stopped, spaces, signal.SIGKILL)


def _spaces(record: Record) -> dict[Identity, str]:
    """Identity of each of the stack's namespaces that is still under its name -> the machine it is."""
    entries = record["network"]["namespaces"]
    mine = {(entry["device"], entry["inode"]): entry for entry in entries}
    owner = f"/proc/{record['supervisor']['pid']}/root"  # the names may be in mounts of its own
    return {
        identity: entry["role"]
        for identity, entry in mine.items()
        if identity in (namespaces.identity(entry["name"]), namespaces.identity(entry["name"], owner))
        and identity != _space_of(1)  # never the machine's own
    }


def _own(record: Record) -> set[int]:
    """Processes of the stack itself, which their owner ends; this one, and its ancestors."""
    recorded = (record["supervisor"], *record["processes"].values())
    return {identity["pid"] for identity in recorded if is_alive(identity)} | lineage()


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _found(spaces: dict[Identity, str], spared: set[int]) -> dict[int, str]:
    """Pid -> machine of whoever is in one of ``spaces``."""
    pids = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} - spared
    return {pid: machine for pid in pids if (machine := spaces.get(_space_of(pid) or (0, 0))) is not None}


def _space_of(pid: int) -> Identity | None:
    """The network namespace of a process; None for one that has ended, a zombie among them.

    It is that of the first thread as a rule. That thread may have ended alone, which makes the process look like a
    zombie, and leaves it running.
    """
    try:
        return _numbers(f"/proc/{pid}/ns/net")
    except OSError:
        pass
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                return _numbers(f"/proc/{pid}/task/{thread}/ns/net")
    return None


def _numbers(path: str) -> Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _name(pid: int) -> str:
    """What the process calls itself: text of its own choice, so only what can be printed of it."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            name = file.read(_LONGEST_NAME)
    except OSError:
        return "?"
    return "".join(filter(str.isprintable, name)).strip() or "?"


def _signal(pids: Iterable[int], spaces: dict[Identity, str], number: signal.Signals) -> None:
    """A pidfd first, then the look whether its process is in a namespace of ours: a number may be another's by now."""
    for pid in pids:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                if _space_of(pid) in spaces:
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)
