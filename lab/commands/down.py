"""``worldswitch down``: ends stacks, and finishes the work of supervisors that were killed."""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from pathlib import Path
from typing import Final

from lab import inhabitants, processes
from lab.complaint import complain
from lab.options import add_name
from lab.preflight import require_root
from lab.rundir import BASE, Record, RunDirectory, names, state_of
from lab.streams import patient
from machine.errors import StackError, WorldswitchError
from machine.stackname import check_stack_name

__all__ = ["configure", "end_stack", "run"]

_PATIENCE_SECONDS: Final = 15.0
_LOCK_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.02
_REQUESTS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


def configure(parser: argparse.ArgumentParser) -> None:
    """One stack or all."""
    add_name(parser)
    parser.add_argument("--all", action="store_true", help="every stack on this machine")
    parser.add_argument(
        "--keep-programs", action="store_true", help="leave programs that `worldswitch exec` has started, and name them"
    )


def run(args: argparse.Namespace) -> int:
    """0 also when there is nothing to do."""
    require_root()
    chosen = names() if args.all else [check_stack_name(args.name)]
    if not chosen:
        print("nothing to do: no stack is up")
    failures = 0
    for name in chosen:
        try:
            with patient():  # a line that cannot be written is no reason to leave the others up
                print(end_stack(name, keep_programs=args.keep_programs), flush=True)
        except WorldswitchError as error:  # the next one may still be ended
            complain(error)
            failures += 1
    return 1 if failures else 0


def end_stack(name: str, *, keep_programs: bool = False) -> str:
    """Ends the stack, or what is left of it; answers with one line on what there was to do."""
    directory = RunDirectory(name)
    if not (BASE / name).is_dir():
        return f"nothing to do: no stack {name} is up"
    record = _settled(directory)
    try:
        state = state_of(record)
        programs = "" if record is None else _see_to_programs(directory, record, keep=keep_programs)
        if record is not None and state in ("starting", "running"):
            _ask(name, record)
            if directory.load() is None:
                _tidy(directory)
                return f"stack {name} is down{programs}"
        return _finish(directory, state) + programs
    finally:
        directory.release(keep_record=True)  # after a failure; else it has been


def _settled(directory: RunDirectory) -> Record | None:
    """The record of a stack that somebody looks after; else what is left of it, and the directory is ours.

    Whoever starts a stack has its name for a moment before the record says so, and for longer if there is something of
    a stack before it to be removed. Without a wait, that start would go on behind the back of a user who has just
    asked for its end.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while state_of(record := directory.load()) not in ("starting", "running"):
        try:
            directory.claim()
        except StackError:
            if time.monotonic() >= deadline:
                raise StackError(
                    f"stack {directory.name!r} is just being started, or removed, by another program: try again"
                ) from None
            time.sleep(_LOOK_SECONDS)
        else:
            return directory.load()  # nobody changes it any more
    return record


def _see_to_programs(directory: RunDirectory, record: Record, *, keep: bool) -> str:
    """Ends what `exec` has started, or leaves it; the words for the line on the stack."""
    inhabitants.spare(directory, None if keep else inhabitants.at_home(record, inhabitants.lineage()))
    if keep:
        found = inhabitants.programs(record)
        return f"; these go on without it: {inhabitants.listed(found)}" if found else ""
    found, left = inhabitants.end_programs(record)
    words = f"; ended what still ran on its machines: {inhabitants.listed(found)}" if found else ""
    return words + (f"; these do not end: {inhabitants.listed(left)}" if left else "")


def _ask(name: str, record: Record) -> None:
    """The supervisor takes a signal as a request, at any moment; one that does not react is killed."""
    supervisor = [record["supervisor"]]
    if processes.end(supervisor, _request(supervisor[0]["pid"]), _PATIENCE_SECONDS):
        return
    if not processes.end(supervisor, signal.SIGKILL, _PATIENCE_SECONDS):
        raise StackError(f"the supervisor of stack {name!r} (pid {supervisor[0]['pid']}) does not end")


def _tidy(directory: RunDirectory) -> None:
    """Removes the directory, if what was told the supervisor in a file of it came when that had just emptied it."""
    if directory.path.is_dir():
        with contextlib.suppress(StackError):  # somebody has started a stack of that name since
            directory.claim()
            directory.release(keep_record=directory.recorded)


def _request(pid: int) -> signal.Signals:
    """SIGTERM, or what else process ``pid`` listens to: whatever was ignored at its start, it ignores."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return signal.SIGTERM
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)  # proc(5): bit n - 1 is signal n
    return next((number for number in _REQUESTS if not ignored >> number - 1 & 1), signal.SIGTERM)


def _finish(directory: RunDirectory, state: str) -> str:
    """No supervisor is left to do it."""
    from lab import recovery  # it brings pyroute2 along, which takes 0.2 s to import

    directory.claim(_LOCK_SECONDS)
    record = directory.load()
    state = state if record is None or state not in ("starting", "running") else state_of(record)
    try:
        if record is not None:
            recovery.clean(directory, record)
    except BaseException:
        directory.release(keep_record=True)
        raise
    directory.release()
    if state == "stopped" and record is not None:
        return f"stack {directory.name} had ended by itself: {record['reason']}"
    if state == "unclean":
        return f"stack {directory.name} is down, and what could not be removed before is removed"
    return f"stack {directory.name} is down; its supervisor had been killed, and what it left is removed"
