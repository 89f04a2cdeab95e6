"""``worldswitch list``: every stack of this machine, one a line."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from lab.complaint import complain
from lab.preflight import require_root
from lab.rundir import RunDirectory, names, state_of
from lab.textlayout import table
from machine.errors import WorldswitchError

__all__ = ["configure", "describe", "run"]

_COLUMNS: Final = ("name", "state", "mode", "guest", "since")
_DAMAGED: Final = "damaged"


def configure(parser: argparse.ArgumentParser) -> None:
    """In what form."""
    parser.add_argument("--json", action="store_true", help="for programs: an array, an object for each stack")


def run(args: argparse.Namespace) -> int:
    """0 if every stack could be read, also when there is none; 1 otherwise. The directories are root's to read."""
    require_root()
    stacks, problems = [], []
    for name in names():
        try:
            found = describe(name)
        except WorldswitchError as error:
            problems.append(error)
            found = dict.fromkeys(_COLUMNS) | {"name": name, "state": _DAMAGED, "pid": None}
        if found is not None:
            stacks.append(found)
    if args.json:
        print(json.dumps(stacks, indent=2))
    elif stacks:
        print(table(_COLUMNS, [[str(stack[column] or "-") for column in _COLUMNS] for stack in stacks]))
    else:
        print("no stack is up")
    for problem in problems:
        complain(problem)
    return 1 if problems else 0


def describe(name: str) -> dict[str, Any] | None:
    """What `list` says of a stack; ``since``: when its supervisor started. None if it has just gone."""
    record = RunDirectory(name).load()
    if record is None:
        return None
    settings = record["settings"]
    return {
        "name": name,
        "state": state_of(record),
        "mode": settings["mode"],
        "guest": settings.get("guest", "builtin"),
        "since": _since(record["supervisor"]),
        "pid": record["supervisor"]["pid"],
    }


def _since(supervisor: Mapping[str, int]) -> str:
    """The kernel counts a process's start in ticks since the machine did (proc(5), field starttime)."""
    import psutil

    moment = psutil.boot_time() + supervisor["started"] / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(moment).astimezone().isoformat(sep=" ", timespec="seconds")
