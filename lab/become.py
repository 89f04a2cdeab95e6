"""Becomes another's program: without privileges, a network or io_uring, and not outliving its parent.

python -m lab.become PARENT CPUS PROGRAM [ARGUMENT...]

PARENT is an inherited pidfd of the parent: its number would say nothing where process numbers are one's own.
"""

from __future__ import annotations

import os
import sys

from lab.complaint import complain
from machine.errors import WorldswitchError
from machine.process import confine, die_with_parent, drop_privileges, leave_network, pin

__all__ = ["main"]


def main() -> int:
    """Returns only if the program cannot be started."""
    parent, cpus, *words = sys.argv[1:]
    try:
        die_with_parent(int(parent))
        pin(tuple(int(cpu) for cpu in cpus.split(",")))
        leave_network()
        drop_privileges()
        die_with_parent(int(parent))  # again: the kernel forgets the request when a process changes its user
        os.close(int(parent))
        confine()  # io_uring: no sandbox sees into it, and without it QEMU's loops are quicker (docs/security.md)
        os.execvp(words[0], words)
    except WorldswitchError as error:
        complain(error)
    except OSError as error:
        complain(f"cannot run {words[0]}: {error.strerror}; user nobody has to reach it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
