"""What this machine must offer before anything is made; each lack is one line that says what to do."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from machine.errors import SetupError

__all__ = ["RootError", "as_root", "check_machine", "require_program", "require_root"]

_TUN: Final = Path("/dev/net/tun")
_NAMESPACES: Final = Path("/proc/self/ns/net")


class RootError(SetupError):
    """Only root may do that."""


def require_root() -> None:
    """Namespaces, TAPs and the run directory are root's."""
    if os.geteuid() != 0:
        raise RootError("needs root: run it with sudo")


def as_root(arguments: Sequence[str]) -> str:
    """The command line that runs this very program, with ``arguments``, as root.

    By its full path: sudo looks for programs on a path of its own, where no virtual environment is.
    """
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":  # python -m lab
        words = [sys.executable, "-m", os.path.basename(os.path.dirname(called))]
    else:
        words = [_whole(called)]
    return shlex.join(["sudo", *words, *arguments])


def _whole(program: str) -> str:
    """Its path from the root; as it is if that cannot be said, as where the working directory is gone."""
    found = shutil.which(program) or program
    try:
        return os.path.abspath(found)
    except OSError:
        return found


def check_machine() -> None:
    """Root, TAPs, network namespaces."""
    require_root()
    if not _TUN.exists():
        raise SetupError(
            f"there is no {_TUN}: load the driver (modprobe tun), or in a container make the node "
            f"(mkdir -p {_TUN.parent} && mknod {_TUN} c 10 200)"
        )
    if not _NAMESPACES.exists():
        raise SetupError("this kernel has no network namespaces (CONFIG_NET_NS): use another kernel")


def require_program(name: str, package: str) -> str:
    """Path of a program that a command cannot do without; ``package`` is its Debian package."""
    found = shutil.which(name)
    if found is None:
        raise SetupError(f"needs {name}, which is not installed: apt-get install {package}")
    return found
