"""Where a load program runs, and how one is started there, listened to, and ended, whatever happens.

Every program starts through ``lab.load.inside``, so it cannot outlive the process that measures; every wait here has
a limit; what is ended is ended by its ``Popen``, never by name.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from lab.complaint import last_line
from lab.load.inside import UNCHANGED
from machine.errors import BenchError, SetupError, StackError
from netbackend import namespaces
from netbackend.plan import Station

__all__ = [
    "Place",
    "Program",
    "check_running",
    "environment",
    "find_program",
    "first_line",
    "is_load",
    "output",
    "python_module",
    "started",
]

Program: TypeAlias = subprocess.Popen[bytes]

_END_SECONDS: Final = 2.0
_LINE_LIMIT: Final = 4096
_MARK: Final = "WORLDSWITCH_LOAD"  # in the environment of every program that belongs to a load


@dataclass(frozen=True, slots=True)
class Place:
    """A machine of the lab: its namespace, its IPv4 address, the CPUs its programs keep to (none: any)."""

    namespace: str
    address: str
    cpus: tuple[int, ...] = ()

    @classmethod
    def of(cls, station: Station, cpus: Sequence[int] = ()) -> Place:
        """The place that ``station`` of a network plan is."""
        return cls(station.namespace, station.address, tuple(cpus))


def find_program(name: str, package: str) -> str:
    """The path of program ``name``; SetupError, with the remedy, if it isn't installed."""
    found = shutil.which(name)
    if found is None:
        raise SetupError(f"there is no {name} on this machine; install it (apt install {package})")
    return found


def python_module(name: str, *arguments: object) -> list[str]:
    """The command that runs a module of this project; -P: not one of the same name in the current directory."""
    return [sys.executable, "-P", "-m", name, *map(str, arguments)]


def environment() -> dict[str, str]:
    """For a load's program: the C locale, for what it prints is parsed here; and the mark by which it is known."""
    return os.environ | {"LC_ALL": "C", _MARK: "1"}


def is_load(pid: int) -> bool:
    """Whether a process is a load's program, or was started by one."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{_MARK}=1".encode() in words


@contextmanager
def started(
    command: Sequence[str], place: Place | None = None, *, cpus: Sequence[int] = (), fds: Sequence[int] = ()
) -> Iterator[Program]:
    """``command`` running at ``place`` (None: in this process's namespace, on ``cpus``) until the block ends.

    It inherits the descriptors ``fds``; its standard streams are pipes, unbuffered. StackError if there is no such
    namespace.
    """
    namespace = UNCHANGED
    if place is not None:
        namespace, cpus = place.namespace, place.cpus
        if namespaces.identity(namespace) is None:
            raise StackError(f"there is no network namespace {namespace}; is the stack up?")
    where = (namespace, ",".join(map(str, cpus)) or UNCHANGED, os.getpid())
    process = subprocess.Popen(
        python_module("lab.load.inside", *where, *command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=fds,
        cwd="/",
        env=environment(),
        process_group=0,  # the terminal's Ctrl-C is for who measures
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: Program) -> None:
    process.terminate()  # does nothing to one that has been collected
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def first_line(process: Program, name: str, seconds: float) -> str:
    """The next line that the program prints, without its end; BenchError if it ends or ``seconds`` pass first."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds
    line = bytearray()
    while len(line) < _LINE_LIMIT:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise BenchError(f"{name} said nothing within {seconds:g} s")
        byte = os.read(fd, 1)  # not one more: the rest is for output()
        if byte == b"\n":
            return line.decode(errors="replace")
        if not byte:
            raise BenchError(f"{name} did not start: {_last_words(process)}")
        line += byte
    raise BenchError(f"{name} printed a line of more than {_LINE_LIMIT} bytes")


def output(process: Program, name: str, seconds: float, *, good: Sequence[int] = (0,)) -> str:
    """What the program prints until it ends; BenchError if that takes longer, or its status is none of ``good``."""
    try:
        printed, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} did not end within {seconds:g} s") from None
    if process.returncode not in good:
        reason = last_line(errors.decode(errors="replace")) or last_line(printed.decode(errors="replace"))
        raise BenchError(f"{name} failed with status {process.returncode}: {reason}")
    return printed.decode(errors="replace")


def check_running(process: Program, name: str) -> None:
    """BenchError if the program has ended, although it should have run to the end of the measurement."""
    if process.poll() is not None:
        raise BenchError(f"{name} ended early: {_last_words(process)}")


def _last_words(process: Program) -> str:
    try:
        _, errors = process.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        return "it closed its output"
    return last_line(errors.decode(errors="replace")) or f"status {process.returncode}"
