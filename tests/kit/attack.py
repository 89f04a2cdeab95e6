"""Stacks with an attacker in them (``tests.kit.attacker``), started by a test or by the command line, and attacks.

An attack is source text, so that it needs nothing of this repository where it runs: as nobody, with few descriptors.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from unittest import mock

from tests.kit.attacker import STRIKE
from tests.kit.cli import record_of, worldswitch
from tests.kit.impostor import ImpostorStack, Program, module_program
from tests.kit.stack import Bed, running

__all__ = ["attacked", "attacked_up", "attacker", "main", "source_of", "strike"]

_ENVIRONMENT: Final = "WORLDSWITCH_ATTACK"
_PATIENCE_S: Final = 40.0
_STRIKES: Final = 3


def source_of(function: Callable[..., object]) -> str:
    """The source of a function of ``station``, ``role`` and ``report``, which imports what it uses; and its call."""
    text = textwrap.dedent(inspect.getsource(function))
    return f"{text}\n{function.__name__}(station, role, report)\n"


def attacker(role: str, source: str) -> Program:
    """The program of a role that runs ``source`` when it is struck."""
    return module_program("tests.kit.attacker", role, source)


def strike(pid: int) -> None:
    """Has the attacker begin. Python runs a handler late whose signal comes just before a sleep: it is said again."""
    for _ in range(_STRIKES):
        with contextlib.suppress(ProcessLookupError):  # the attack has begun, and was its end
            os.kill(pid, STRIKE)
        time.sleep(0.05)


@contextmanager
def attacked(role: str, source: str, **settings: object) -> Iterator[Bed]:
    """A running stack with an attacker as its ``role``; ``strike(bed.stack.pids[role])`` begins."""
    with running(partial(ImpostorStack, programs={role: attacker(role, source)}), **settings) as bed:
        yield bed


@contextmanager
def attacked_up(name: str, role: str, source: str, *options: str) -> Iterator[dict[str, Any]]:
    """The same by ``worldswitch up --detach``, supervisor and all; gives its record. Taken down with the block."""
    words = [sys.executable, "-m", "tests.kit.attack", "up", "--detach", "--name", name, *options]
    environment = os.environ | {_ENVIRONMENT: json.dumps([role, source])}
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S, env=environment
        )
        assert done.returncode == 0, done.stderr
        yield record_of(name)
    finally:
        worldswitch("down", "--name", name)


def main() -> int:
    """The command line, whose stacks have the attacker that the environment describes."""
    from lab import cli, supervisor

    role, source = json.loads(os.environ[_ENVIRONMENT])
    stack = partial(ImpostorStack, programs={role: attacker(role, source)})
    with mock.patch.object(supervisor, "Stack", stack):
        return cli.main()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
