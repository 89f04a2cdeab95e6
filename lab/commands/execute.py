"""``worldswitch exec``: becomes a program on one of the stack's machines: in its namespace, on its CPUs.

It sees that machine's /sys, and the names of all machines in /etc/hosts (``netbackend.view``).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from lab.complaint import complain
from lab.options import add_name
from lab.preflight import require_root
from lab.rundir import Record, RunDirectory, running_record
from machine.errors import ConfigError, StackError
from machine.process import pin
from netbackend import namespaces
from netbackend.plan import NetworkPlan
from netbackend.view import own_view

__all__ = ["MACHINES", "VALUED", "configure", "cpus_of", "run", "split_command"]

MACHINES: Final = ("guest", "host", "peer", "native")

VALUED: Final = ("--name",)
"""The options of ours whose value is the next word."""

_NOT_EXECUTABLE: Final = 126  # as POSIX shells have it
_NOT_FOUND: Final = 127


def configure(parser: argparse.ArgumentParser) -> None:
    """Where, and what."""
    add_name(parser)
    parser.add_argument("machine", choices=MACHINES, metavar="MACHINE", help=" or ".join(MACHINES))
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="the program and its arguments, all as they are")


def split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What of the words after ``exec`` is ours, and the program with its arguments.

    The program is what follows MACHINE and is no option, or follows a ``--``; whatever comes after it is its own,
    ``--name`` and ``--`` included. So ``exec guest ls -la`` needs no ``--``, and ``exec guest --name x ls`` is right.
    """
    at, places = 0, 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return list(words[:at]), list(words[at + 1 :])
        if word.startswith("-") and word != "-":
            at += 2 if word in VALUED else 1
        elif places:
            return list(words[:at]), list(words[at:])
        else:
            places, at = 1, at + 1
    return list(words), []


def run(args: argparse.Namespace) -> int:
    """Returns only if the program cannot be started: 126 or 127."""
    if not args.words:
        raise ConfigError(f"what shall {args.machine} run? worldswitch exec {args.machine} COMMAND...")
    require_root()
    record = running_record(RunDirectory(args.name))
    if args.machine == "guest" and record["settings"].get("guest", "builtin") != "builtin":
        raise StackError("a guest with a kernel of its own has no namespace here: use its console")
    namespaces.enter(*_namespace(record, args.machine))
    stations = NetworkPlan(args.name).stations
    own_view({machine: stations[machine].address for machine in MACHINES}, args.name)
    pin(cpus_of(args.machine, tuple(record["settings"]["cpus"])))
    return _become(args.words)


def cpus_of(machine: str, cpus: tuple[int, ...]) -> tuple[int, ...]:
    """CPUs of a machine's programs: the peer is another computer, so it gets those that the stack does not use."""
    if machine != "peer":
        return cpus
    every = os.sched_getaffinity(0)
    return tuple(sorted(every - set(cpus) or every))


def _namespace(record: Record, machine: str) -> tuple[str, str]:
    """The machine's namespace: its name, and the root directory where it has that name, ours or the supervisor's."""
    for entry in record["network"]["namespaces"]:
        if entry["role"] != machine:
            continue
        for root in ("", f"/proc/{record['supervisor']['pid']}/root"):
            if namespaces.identity(entry["name"], root) == (entry["device"], entry["inode"]):
                return entry["name"], root
    raise StackError(f"the network namespace of {machine} is gone: `worldswitch down`, then up again")


def _become(words: list[str]) -> int:
    sys.stdout.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these, and the program would inherit that
    try:
        os.execvp(words[0], words)
    except (OSError, ValueError) as error:
        found = isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        complain(f"cannot run {words[0]!r}: {reason}")
        return _NOT_EXECUTABLE if found else _NOT_FOUND
