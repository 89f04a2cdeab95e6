"""The ``worldswitch`` program as a user runs it: a process of its own, its words, its exit status, its leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lab import processes
from lab.rundir import BASE, RunDirectory

__all__ = ["COMMAND", "alive", "assert_one_line", "foreground", "names_of", "record_of", "status", "up", "worldswitch"]

COMMAND: Final = (sys.executable, "-m", "lab")
_PATIENCE_S: Final = 40.0


def worldswitch(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The program has failed as a user may expect: this status, one line on stderr; returns the line."""
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("worldswitch: ")
    return done.stderr.strip()


@contextmanager
def up(name: str, *options: str) -> Iterator[dict[str, Any]]:
    """A detached stack; gives its record, and takes it down however the test ends."""
    try:
        done = worldswitch("up", "--detach", "--name", name, *options)
        assert done.returncode == 0, done.stderr
        yield record_of(name)
    finally:
        worldswitch("down", "--name", name)


@contextmanager
def foreground(name: str, *options: str, wait: bool = True) -> Iterator[subprocess.Popen[str]]:
    """``worldswitch up`` in the foreground; up by the time the block begins if ``wait``; gone after it."""
    process = subprocess.Popen(
        [*COMMAND, "up", "--name", name, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if wait:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"stack {name} is up"), process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_PATIENCE_S)
        worldswitch("down", "--name", name)


def status(name: str, *options: str) -> dict[str, Any]:
    """The JSON report on a stack in whatever state."""
    report: dict[str, Any] = json.loads(worldswitch("status", "--json", "--name", name, *options).stdout)
    return report


def record_of(name: str) -> dict[str, Any]:
    """The record in the stack's run directory; empty if there is none."""
    return RunDirectory(name).load() or {}


def names_of(name: str) -> set[str]:
    """What a stack of that name has in the file system: namespaces and the run directory."""
    spaces = {str(path) for path in Path("/run/netns").glob(f"ws-{name}-*")} if Path("/run/netns").is_dir() else set()
    return spaces | ({str(BASE / name)} if (BASE / name).exists() else set())


def alive(record: dict[str, Any]) -> list[str]:
    """Roles of the record's processes that still run."""
    return [role for role, identity in record["processes"].items() if processes.is_alive(identity)]
