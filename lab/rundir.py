"""A stack's run directory, /run/worldswitch/NAME: what exists for it, and who looks after that.

============== ============================================================================================
record.msgpack everything the stack has made, replaced whole each time something is added
lock           held with flock() by whoever changes the directory: the supervisor for as long as it lives
control.sock   where the supervisor answers (``lab.client``)
log            what a detached supervisor says, and of its processes what it passes on; bounded
guest/         a foreign guest's folder: its sockets (``lab.foreign``)
console        what a foreign guest prints, unless a terminal shows it; bounded
spared         what `down` has decided on programs of the stack's machines: see ``lab.inhabitants``
============== ============================================================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final, TypeAlias

from lab.processes import is_alive
from machine.control import pack, unpack
from machine.errors import ConfigError, ControlError, SetupError, StackError
from netbackend.namespaces import check_stack_name

__all__ = ["BASE", "Record", "RunDirectory", "names", "running_record", "state_of"]

Record: TypeAlias = dict[str, Any]
"""{"state", "reason", "supervisor", "settings", "planned", "network", "processes"}: ``lab.supervisor`` writes it."""

BASE: Final = Path("/run/worldswitch")

_VERSION: Final = 1
_RETRY_SECONDS: Final = 0.02
_MOST_RACES: Final = 1000

_START: Final = "start it with `worldswitch up`"
_REMEDIES: Final = {  # what to do about a stack in this state, if it is not just to start it
    "starting": "wait until it is up",
    "dead": "its supervisor was killed; `worldswitch down` removes what it left",
    "unclean": "it has ended, but not all of it could be removed; `worldswitch down` tries again",
}


class RunDirectory:
    """The run directory of stack ``name``; it need not exist."""

    def __init__(self, name: str, base: Path = BASE) -> None:
        self.name = check_stack_name(name)
        self.path = base / name
        self.socket = self.path / "control.sock"
        self.log = self.path / "log"
        self.guest = self.path / "guest"
        self.console = self.path / "console"
        self.spared = self.path / "spared"
        self._record = self.path / "record.msgpack"
        self._lock = self.path / "lock"
        self._lock_fd = -1

    def claim(self, seconds: float = 0.0) -> None:
        """Makes the directory and takes its lock, waiting ``seconds`` for it; harmless twice.

        StackError if another has it.
        """
        deadline = time.monotonic() + seconds
        while self._lock_fd < 0 and not self._try_claim():
            if time.monotonic() >= deadline:
                raise StackError(
                    f"a stack named {self.name!r} is up: choose another with --name, or `worldswitch down` first"
                )
            time.sleep(_RETRY_SECONDS)

    def _try_claim(self) -> bool:
        fd = self._open_lock()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == self._lock.stat().st_ino:
                self._lock_fd = fd
                return True
        except (BlockingIOError, FileNotFoundError):  # held; or released and removed since it was opened
            pass
        os.close(fd)
        return False

    def _open_lock(self) -> int:
        for attempt in range(_MOST_RACES):
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # names of stacks are root's business
                self.path.mkdir(mode=0o700, exist_ok=True)
                return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raced = isinstance(error, FileNotFoundError | FileExistsError)  # its last owner has just removed it
                if not raced or attempt == _MOST_RACES - 1:
                    self._remove_empty()
                    raise SetupError(f"cannot use {self.path}: {error.strerror}; run as root (sudo)") from None
        raise AssertionError("unreachable")

    def _remove_empty(self) -> None:
        for directory in (self.path, self.path.parent):
            with contextlib.suppress(OSError):  # not empty: of other stacks, or of somebody's own files
                directory.rmdir()

    @property
    def recorded(self) -> bool:
        """Whether there is a record, readable or not."""
        return self._record.exists()

    def load(self) -> Record | None:
        """The record; None if there is none. StackError if it cannot be understood."""
        try:
            packed = self._record.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SetupError(f"cannot read {self._record}: {error.strerror}; run as root (sudo)") from None
        try:
            record = unpack(packed)
            if record["version"] == _VERSION:
                return dict(record)
        except (ControlError, ValueError, KeyError, TypeError):
            pass
        raise StackError(f"{self._record} is damaged, or another version's: see `ip netns list`, then remove it")

    def save(self, record: Record) -> None:
        """Replaces the record; at every moment there is a whole one, the old or the new."""
        new = self.path / "record.new"
        packed = pack(record | {"version": _VERSION})
        try:
            new.write_bytes(packed)
            new.replace(self._record)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise SetupError(f"cannot write {self._record}: {error.strerror}") from None

    def forget(self) -> None:
        """Removes the record: what it listed is gone."""
        self._record.unlink(missing_ok=True)

    def release(self, *, keep_record: bool = False) -> None:
        """Gives the lock back, and the directory unless its record still says something. Harmless twice."""
        if self._lock_fd < 0:
            return
        self.socket.unlink(missing_ok=True)
        if not keep_record:
            shutil.rmtree(self.guest, ignore_errors=True)
            for file in (self._record, self.path / "record.new", self.log, self.console, self.spared, self._lock):
                file.unlink(missing_ok=True)
            self._remove_empty()
        os.close(self._lock_fd)
        self._lock_fd = -1


def names(base: Path = BASE) -> list[str]:
    """Names of all stacks that have a run directory."""
    try:
        return sorted(name for name in os.listdir(base) if _is_name(name))
    except OSError:
        return []


def _is_name(text: str) -> bool:
    try:
        return bool(check_stack_name(text))
    except ConfigError:
        return False


def state_of(record: Record | None) -> str:
    """absent; starting, running; dead: its supervisor was killed; and two that say why, as "reason".

    stopped: it has ended by itself, and nothing is left. unclean: it has ended, and could not remove all that it made.
    """
    if record is None:
        return "absent"
    state: str = record["state"]
    if state in ("stopped", "unclean") or is_alive(record["supervisor"]):
        return state
    return "dead"


def running_record(directory: RunDirectory) -> Record:
    """The record of a stack that runs; StackError, one line, for one that doesn't."""
    record = directory.load()
    state = state_of(record)
    if record is None or state != "running":
        raise StackError(f"stack {directory.name!r} is {state}: {_REMEDIES.get(state, _START)}")
    return record
