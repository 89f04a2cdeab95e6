"""``python -m lab``: the same as the ``worldswitch`` program."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from lab.cli import main
    except KeyboardInterrupt:  # Ctrl-C before there is anything that could say so in a line
        sys.exit(130)
    sys.exit(main())
