"""What this machine must offer before anything is made; each lack is one line that says what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from machine.errors import SetupError

__all__ = ["check_machine", "require_program", "require_root"]

_TUN: Final = Path("/dev/net/tun")
_NAMESPACES: Final = Path("/proc/self/ns/net")


def require_root() -> None:
    """Namespaces, TAPs and the run directory are root's."""
    if os.geteuid() != 0:
        raise SetupError("needs root: run it with sudo")


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
