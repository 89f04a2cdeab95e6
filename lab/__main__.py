"""``python -m lab``: the same as the ``worldswitch`` program."""

from __future__ import annotations

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command has handlers of its own, Ctrl-C ends it as it ends any program: without a traceback of imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
