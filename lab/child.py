"""One process of a stack, as its owner holds it: how it is started, what its end looks like, how it is ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from lab.complaint import complain
from lab.hearing import Printed, text_of
from lab.perfsupport import INTERPRETER_OPTIONS
from lab.stops import signal_name
from lab.terminal import Terminal
from machine.activity import note
from machine.control import Channel
from machine.errors import ControlError
from machine.process import own_numbers

__all__ = ["Child", "epitaph", "reap", "spawn_program", "spawn_role", "start_program"]


_REAP_SECONDS: Final = 5.0
_LAST_MESSAGES: Final = 64


@dataclasses.dataclass(slots=True)
class Child:
    """``pidfd`` is readable when the process has ended. A program that is not ours has no control channel.

    ``printed``: what it says on its standard output and error; None if somebody else reads that (``lab.terminal``).
    ``failure``: why it is about to end, if it has said so on its channel to somebody who did not wait for its end.
    """

    role: str
    process: subprocess.Popen[bytes]
    control: Channel | None
    pidfd: int
    printed: Printed | None = None
    failure: str = ""


def spawn_role(
    role: str, fds: Collection[int], *, profiling: bool, program: Sequence[str] = (), arguments: Sequence[str] = ()
) -> Child:
    """A process of ours (``machine.launch``) that inherits ``fds``; it waits for its launch record.

    It has nothing else of its parent's. Its session is its own, so it has no controlling terminal, and its three
    standard descriptors are /dev/null and a pipe: a process that could reach its parent's terminal could type commands
    there (TIOCSTI), or print what the terminal obeys. Its process numbers are its own, too, unless ``profiling``: perf
    finds a process's map of its functions by the number that the process knows itself by.

    ``program``: what Python runs, if not the role's own package; ``arguments`` follow, and then the control channel's
    descriptor.
    """
    options = INTERPRETER_OPTIONS if profiling else ()
    with contextlib.ExitStack() as undo:
        here, there = Channel.pair()
        undo.callback(there.close)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, writer)
        os.set_blocking(reader, False)  # of our end alone: the two ends of a pipe have flags of their own
        with contextlib.nullcontext() if profiling else own_numbers():
            process = subprocess.Popen(
                [sys.executable, *options, "-P", *(program or ("-m", role)), *arguments, str(there.fileno())],
                pass_fds=(*fds, there.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd="/",
                start_new_session=True,
            )
    note("started %s: pid %d, descriptors %s", role, process.pid, sorted(fds))
    return Child(role, process, here, os.pidfd_open(process.pid), Printed(reader))


def spawn_program(
    role: str, words: Sequence[str], fds: Iterable[int], folder: Path, cpus: Iterable[int], terminal: Terminal
) -> Child:
    """Somebody else's program, started in ``folder`` without privileges (``lab.become``); it dies with this process.

    What it prints goes to ``terminal``, from which it reads, too, and which begins its work. Its session and its
    process numbers are its own, as a role's are: when the first process of a numbering ends, all others in it do.
    """
    process = start_program(words, fds, folder, cpus, stdin=terminal.stdin, output=terminal.stdout)
    terminal.started()
    note("started %s: pid %d, %s", role, process.pid, " ".join(words))
    return Child(role, process, None, os.pidfd_open(process.pid))


def start_program(
    words: Sequence[str], fds: Iterable[int], folder: Path, cpus: Iterable[int], *, stdin: int, output: int
) -> subprocess.Popen[bytes]:
    """The process of ``spawn_program``; ``stdin``, ``output``: descriptors, or what ``subprocess`` has for them."""
    own = os.pidfd_open(os.getpid())
    try:
        with own_numbers():
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "lab.become", str(own), ",".join(map(str, cpus)), *words],
                pass_fds=(*fds, own),
                cwd=folder,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    finally:
        os.close(own)


def epitaph(child: Child, last_words: str = "") -> str:
    """One line on a process that has ended, its own last words included; ``last_words``: those of a program."""
    status = child.process.returncode
    how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
    words = last_words or _last_message(child) or _last_printed(child)
    return f"process {child.role} (pid {child.process.pid}) {how}" + (f": {words}" if words else "")


def _last_message(child: Child) -> str:
    """What it has said is the reason: the last of its messages that says anything. It may have sent many."""
    found = child.failure
    with contextlib.suppress(ControlError):
        for _ in range(_LAST_MESSAGES):
            message = child.control.receive(0.0) if child.control is not None else None
            if message is None:
                break
            found = text_of(message, "message") or found
    return found


def _last_printed(child: Child) -> str:
    """The last line it has printed, which of a traceback is the one that names the exception."""
    if child.printed is None:
        return ""
    child.printed.lines()
    return child.printed.last


def reap(children: Iterable[Child], seconds: float) -> None:
    """Ends the processes, gently and, ``seconds`` later, not."""
    every = list(children)
    for child in every:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for child in every:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill(child)
        note("ended %s: pid %d, status %s", child.role, child.process.pid, child.process.returncode)
        if child.control is not None:
            child.control.close()
        if child.printed is not None:
            child.printed.close()
        os.close(child.pidfd)


def _kill(child: Child) -> None:
    """SIGKILL, and a wait with an end: a process that sits in the kernel dies when it comes out of there."""
    child.process.kill()
    try:
        child.process.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        complain(f"process {child.role} (pid {child.process.pid}) has been killed, but hangs in the kernel")
