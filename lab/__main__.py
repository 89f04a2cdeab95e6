"""The ``worldswitch`` program, and ``python -m lab``, which is the same."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["main"]

_INTERRUPTED: Final = 130  # 128 + SIGINT, as a shell has it


def main() -> int:
    """Runs the command line (``lab.cli``); the exit status.

    The import is within the try: it takes a tenth of a second, in which Ctrl-C would be a traceback of imports.
    """
    try:
        from lab import cli

        return cli.main()
    except KeyboardInterrupt:  # before the command had handlers of its own, or after
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
