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

from lab.become import TERMINAL_SIGNALS
from lab.perfsupport import INTERPRETER_OPTIONS
from machine.activity import note
from machine.control import Channel
from machine.errors import ControlError

__all__ = ["Child", "epitaph", "reap", "spawn_program", "spawn_role"]


@dataclasses.dataclass(slots=True)
class Child:
    """``pidfd`` is readable when the process has ended. A program that is not ours has no control channel."""

    role: str
    process: subprocess.Popen[bytes]
    control: Channel | None
    pidfd: int


def spawn_role(role: str, fds: Collection[int], *, profiling: bool) -> Child:
    """A process of ours (``machine.launch``) that inherits ``fds``; it waits for its launch record."""
    here, there = Channel.pair()
    options = INTERPRETER_OPTIONS if profiling else ()
    process = subprocess.Popen(
        [sys.executable, *options, "-P", "-m", role, str(there.fileno())],
        pass_fds=(*fds, there.fileno()),
        stdin=subprocess.DEVNULL,
        cwd="/",
        process_group=0,  # the terminal's Ctrl-C is for the supervisor
    )
    there.close()
    note("started %s: pid %d, descriptors %s", role, process.pid, sorted(fds))
    return Child(role, process, here, os.pidfd_open(process.pid))


def spawn_program(
    role: str, words: Sequence[str], fds: Iterable[int], folder: Path, cpus: Iterable[int], console: int | None
) -> Child:
    """Somebody else's program, started in ``folder`` without privileges (``lab.become``); it dies with this process.

    ``console``: the file that it prints to; None: it has the terminal, and whatever is typed there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)  # inherited, until the program is there
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lab.become", str(os.getpid()), ",".join(map(str, cpus)), *words],
            pass_fds=tuple(fds),
            cwd=folder,
            stdin=None if console is None else subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            process_group=None if console is None else 0,  # in the foreground, or the terminal would stop it
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    note("started %s: pid %d, %s", role, process.pid, " ".join(words))
    return Child(role, process, None, os.pidfd_open(process.pid))


def epitaph(child: Child, last_words: str = "") -> str:
    """One line on a process that has ended, its own last words included; ``last_words``: those of a program."""
    status = child.process.returncode
    how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
    if last_words:
        how += f": {last_words}"
    with contextlib.suppress(ControlError):
        message = child.control.receive(0.0) if child.control is not None else None
        if message is not None and "message" in message:
            how += f": {message['message']}"
    return f"process {child.role} (pid {child.process.pid}) {how}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal other than the first and the last has no name
        return f"signal {number}"


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
            child.process.kill()
            child.process.wait()
        note("ended %s: pid %d, status %s", child.role, child.process.pid, child.process.returncode)
        if child.control is not None:
            child.control.close()
        os.close(child.pidfd)
