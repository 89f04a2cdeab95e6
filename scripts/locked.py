#!/usr/bin/env python3
"""Prints a part of requirements-dev.lock: what the named extras of setup.cfg need, or without a name the run time.

    scripts/locked.py           what worldswitch imports, and the build backend: requirements.lock
    scripts/locked.py report    matplotlib and what it needs

There is one resolution, of everything together, so a package has the same version and the same hashes whichever part
installs it. pip-compile notes at each package which others want it ("# via"); a part is what can be reached that way.
Needs nothing but the standard library: scripts/setup runs it before anything is installed.
"""

from __future__ import annotations

import configparser
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements-dev.lock"
BUILD: Final = "build-system"  # in the notes: wanted by pyproject.toml's table of that name

_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOTE: Final = re.compile(r" +# (?:via)? *(?P<parent>\S.*)")


@dataclass
class Pin:
    """One package of the lock: its lines as they are, and the names of those that want it."""

    lines: list[str] = field(default_factory=list)
    parents: set[str] = field(default_factory=set)


def normal(name: str) -> str:
    """A distribution's name as indices compare it (PyPA, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, Pin]:
    """Normalised name -> its pin, in the order of the file."""
    pins: dict[str, Pin] = {}
    pin = Pin()  # of the lines before the first one, which belong to nobody
    for line in text.splitlines():
        found = _PIN.match(line)
        if found:
            pin = pins[normal(found["name"])] = Pin()
        if not line or line.startswith("#"):
            continue
        pin.lines.append(line)
        note = _NOTE.match(line)
        if note:
            parent = note["parent"]
            pin.parents.add(BUILD if BUILD in parent else normal(parent))
    return pins


def wanted(extras: list[str], setup: str) -> set[str]:
    """Normalised names that setup.cfg asks for by itself. KeyError for an extra that it does not have."""
    parser = configparser.ConfigParser()
    parser.read_string(setup)
    options, of_extras = parser["options"], parser["options.extras_require"]
    texts = [of_extras[extra] for extra in extras] if extras else [options["install_requires"]]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return {normal(found[0]) for line in lines if (found := _NAME.match(line))}


def select(pins: dict[str, Pin], names: set[str]) -> list[Pin]:
    """The pins of ``names`` and of everything that those need, directly or not."""
    chosen = set(names)
    while True:
        more = {name for name, pin in pins.items() if name not in chosen and pin.parents & chosen}
        if not more:
            return [pin for name, pin in pins.items() if name in chosen]
        chosen |= more


def main(extras: list[str]) -> int:
    """Prints the part; 2 and one line for an extra that there is not."""
    pins = read_lock(LOCK.read_text(encoding="utf-8"))
    try:
        names = wanted(extras, (ROOT / "setup.cfg").read_text(encoding="utf-8"))
    except KeyError as error:
        print(f"locked.py: setup.cfg has no extra {error}", file=sys.stderr)
        return 2
    chosen = select(pins, names if extras else names | {BUILD})
    print("\n".join(line for pin in chosen for line in pin.lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
