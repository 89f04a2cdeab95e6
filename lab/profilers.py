"""The sampling profilers that ``worldswitch profile`` drives: py-spy for Python functions, perf for the kernel's.

py-spy reads the interpreter's frames from outside and works with every supported Python; it stops the process for
each sample. perf sees the kernel, and Python functions too where the interpreter lets it (``lab.perfsupport``).

Every process is sampled by programs of its own, so that one which cannot be sampled, or ends meanwhile, costs its own
samples and no other's. A guest that is QEMU runs no Python: only perf is asked about it.

On one shared CPU a process is often ready to run and does not run. perf counts CPU time only. py-spy cannot tell, and
so counts only samples in which Python code runs or would (it holds the interpreter's lock, which every system call
here gives up). That makes its shares right, and its sum too large or too small: ``combine`` takes the sum from perf.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from itertools import starmap
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol

from lab.extras import remedy
from lab.flamegraph import Frame, Stacks
from lab.perfscript import parse_perf_script
from machine.errors import SetupError

__all__ = ["Perf", "Profiler", "PySpy", "Target", "choose", "combine", "parse_py_spy", "record"]

_PY_SPY_HZ: Final = 250
_PERF_HZ: Final = 499  # not a multiple of a timer's rate
_GRACE_SECONDS: Final = 30.0


class Target(NamedTuple):
    """A process to sample."""

    pid: int
    role: str


class Profiler(Protocol):
    """One way to sample a process."""

    @property
    def sees_python(self) -> bool:
        """Whether Python functions have names in it."""

    @property
    def only_python(self) -> bool:
        """Whether it can sample Python programs and no others."""

    @property
    def what(self) -> str:
        """Which functions, and by what program."""

    def command(self, target: Target, seconds: int, folder: Path) -> list[str]:
        """The program to run; it leaves its result in ``folder``, in a file of the role's own."""

    def stacks(self, target: Target, folder: Path) -> Stacks:
        """What it has found."""


@dataclasses.dataclass(frozen=True, slots=True)
class PySpy:
    """py-spy, which reads the interpreter's frames."""

    program: str
    what: str = "Python functions (py-spy)"
    sees_python: bool = True
    only_python: bool = True

    def command(self, target: Target, seconds: int, folder: Path) -> list[str]:
        """Only samples of running Python code: see above."""
        options = ["--duration", str(seconds), "--rate", str(_PY_SPY_HZ), "--format", "raw", "--function", "--gil"]
        return [
            self.program,
            "record",
            *options,
            "--pid",
            str(target.pid),
            "--output",
            str(folder / f"{target.role}.raw"),
        ]

    def stacks(self, target: Target, folder: Path) -> Stacks:
        """A process that has slept all the time has left no file, or an empty one."""
        try:
            text = (folder / f"{target.role}.raw").read_text(errors="replace")
        except FileNotFoundError:
            return {}
        return parse_py_spy(text, target.role, 1 / _PY_SPY_HZ)


def parse_py_spy(text: str, role: str, period: float) -> Stacks:
    """Lines such as "main (guest/__main__.py:55);run (guest/cpu.py:10) 42"; each sample is ``period`` seconds."""
    found: Stacks = {}
    for line in text.splitlines():
        names, _, count = line.rpartition(" ")
        if names and count.isdecimal():
            stack = (Frame(role, "group"), *(Frame(name, "python") for name in names.split(";")))
            found[stack] = found.get(stack, 0.0) + int(count) * period
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Perf:
    """perf, which reads the kernel's frames, and of any program the innermost function."""

    program: str
    sees_python: bool = False
    only_python: bool = False

    @property
    def what(self) -> str:
        """C functions are the interpreter's; see ``lab.perfscript``."""
        return f"{'Python, C' if self.sees_python else 'C'} and kernel functions (perf)"

    def command(self, target: Target, seconds: int, folder: Path) -> list[str]:
        """By the CPU clock: virtual machines often have no hardware counters."""
        output = str(folder / f"{target.role}.data")
        options = ["-q", "-e", "cpu-clock", "-F", str(_PERF_HZ), "-g", "-p", str(target.pid), "-o", output]
        return [self.program, "record", *options, "--", "sleep", str(seconds)]

    def stacks(self, target: Target, folder: Path) -> Stacks:
        """Its samples, their addresses made names."""
        command = [self.program, "script", "-i", str(folder / f"{target.role}.data"), "--no-inline", "-F", "pid,ip,sym"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise SetupError(f"perf script failed: {_gist(done.stderr)}")
        return parse_perf_script(done.stdout, {target.pid: target.role}, 1 / _PERF_HZ, python=self.sees_python)


def choose(*, profiling: bool) -> list[Profiler]:
    """Those to use, best first. ``profiling``: the stack's processes run with perf trampolines."""
    perf, py_spy = shutil.which("perf"), _py_spy()
    if perf is not None and profiling:
        return [Perf(perf, sees_python=True)]
    chosen: list[Profiler] = [] if py_spy is None else [PySpy(py_spy)]
    if perf is not None:
        chosen.append(Perf(perf))
    if not chosen:
        raise SetupError(f"needs py-spy or perf: {remedy('profile')}, or apt-get install linux-perf")
    return chosen


def combine(python: Stacks, perf: Stacks) -> Stacks:
    """One graph: kernel time as perf saw it, user time divided among a role's Python functions as py-spy saw them.

    A role that py-spy has no sample of keeps the C functions.
    """
    in_kernel = {stack: spent for stack, spent in perf.items() if stack[-1].kind == "kernel"}
    user = {stack: spent for stack, spent in perf.items() if stack not in in_kernel}
    spent_by, seen_by = _by_role(user), _by_role(python)
    divided = {stack: spent * spent_by.get(stack[0], 0.0) / seen_by[stack[0]] for stack, spent in python.items()}
    kept = {stack: spent for stack, spent in user.items() if stack[0] not in seen_by}
    return in_kernel | divided | kept


def _by_role(stacks: Stacks) -> dict[Frame, float]:
    sums: dict[Frame, float] = {}
    for stack, spent in stacks.items():
        sums[stack[0]] = sums.get(stack[0], 0.0) + spent
    return sums


def _py_spy() -> str | None:
    """The one of this environment, activated or not; else any."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


def record(
    profilers: Iterable[Profiler], roles: Mapping[int, str], seconds: int, foreign: Collection[str] = ()
) -> tuple[dict[Profiler, Stacks], list[str]]:
    """What each has found, all having run at once; and a line for each that has failed, be it for one process alone.

    ``roles``: process id -> role; ``foreign``: those roles that are no Python programs. On an exception no profiler is
    left running.
    """
    found: dict[Profiler, Stacks] = {}
    problems: list[str] = []
    with contextlib.ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="worldswitch-profile-")))
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        running = {
            profiler: {
                target: _start(profiler.command(target, seconds, folder), undo)
                for target in starmap(Target, roles.items())
                if not (profiler.only_python and target.role in foreign)
            }
            for profiler in profilers
        }
        for profiler, programs in running.items():
            failed: dict[str, list[str]] = {}  # what was wrong -> with which roles
            for target, program in programs.items():
                try:
                    program.finish(deadline)
                    found[profiler] = found.get(profiler, {}) | profiler.stacks(target, folder)
                except SetupError as error:
                    failed.setdefault(str(error), []).append(target.role)
            if failed:
                reasons = "; ".join(f"of {', '.join(of)}: {reason}" for reason, of in failed.items())
                problems.append(f"no {profiler.what} {reasons}")
    return found, problems


@dataclasses.dataclass(frozen=True, slots=True)
class _Program:
    process: subprocess.Popen[bytes] | None
    errors: IO[bytes]

    def finish(self, deadline: float) -> None:
        """SetupError, with the program's last words, if it fails or takes too long."""
        try:
            status = 1 if self.process is None else self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise SetupError("took too long") from None
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace")
        if status:
            raise SetupError(_gist(words))

    def end(self) -> None:
        """Stops it if it still runs; perf and py-spy leave what they profile as it was."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def _start(command: list[str], undo: contextlib.ExitStack) -> _Program:
    errors = undo.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    program = _Program(_spawn(command, errors), errors)
    undo.callback(program.end)
    return program


def _spawn(command: list[str], errors: IO[bytes]) -> subprocess.Popen[bytes] | None:
    """None, and the reason where its errors go, if it cannot be started."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
    except OSError as error:
        errors.write(f"error: cannot run {command[0]}: {error.strerror}".encode())
        return None


def _gist(text: str) -> str:
    """The line that says what is wrong: py-spy puts a stack trace after it, perf puts warnings before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["failed without a word"])[-1]
