"""``python -m lab.load.inside NAMESPACE CPUS PARENT COMMAND...``: becomes a program, in its place and under control.

Enters the network namespace, restricts itself to the CPUs, asks the kernel to end it with the process ``PARENT``,
and execs. All three outlast the exec; so a program that knows nothing of stacks still ends when a benchmark is killed.
``-`` stands for "as it is" in place of a namespace or CPUs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from machine.errors import WorldswitchError
from machine.process import die_with_parent, pin
from netbackend import namespaces

__all__ = ["UNCHANGED", "main"]

UNCHANGED: Final = "-"
_NOT_FOUND: Final = 127  # as POSIX shells have it


def main(arguments: Sequence[str]) -> int:
    """Returns only if it fails: the exit status, after one line on standard error."""
    namespace, cpus, parent, *command = arguments
    try:
        _follow(int(parent))
        if namespace != UNCHANGED:
            namespaces.enter(namespace)
        if cpus != UNCHANGED:
            pin(tuple(map(int, cpus.split(","))))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores these, and the program would inherit that
        os.execvp(command[0], command)
    except WorldswitchError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return _NOT_FOUND


def _follow(parent: int) -> None:
    """Asks for this process's end with its parent's, whose number is ``parent``; ends at once if that is gone."""
    try:
        fd = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != parent:  # it ended, and the number is another's
        os._exit(1)
    die_with_parent(fd)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
