"""Becomes another's program: without privileges, a network or io_uring, and not outliving its parent.

python -m lab.become PARENT CPUS PROGRAM [ARGUMENT...]
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

from lab.complaint import complain
from machine.errors import WorldswitchError
from machine.process import deny_io_uring, die_with_parent, drop_privileges, leave_network, pin

__all__ = ["TERMINAL_SIGNALS", "main"]

TERMINAL_SIGNALS: Final = {signal.SIGINT}
"""Blocked by whoever starts this, so that Ctrl-C ends the program, or what is about to be it, without a traceback."""


def main() -> int:
    """Returns only if the program cannot be started."""
    parent, cpus, *words = sys.argv[1:]
    try:
        die_with_parent(int(parent))
        pin(tuple(int(cpu) for cpu in cpus.split(",")))
        leave_network()
        drop_privileges()
        die_with_parent(int(parent))  # again: the kernel forgets the request when a process changes its user
        deny_io_uring()  # which no sandbox sees into, and without which QEMU's loops are quicker (docs/security.md)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
        os.execvp(words[0], words)
    except WorldswitchError as error:
        complain(error)
    except OSError as error:
        complain(f"cannot run {words[0]}: {error.strerror}; user nobody has to reach it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
