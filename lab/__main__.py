"""``python -m lab``: the same as the ``worldswitch`` program."""

from __future__ import annotations

import sys

from lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
