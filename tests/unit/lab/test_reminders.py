"""A process that misses the signal for new settings is told again. No privilege is needed."""

from __future__ import annotations

import os
import subprocess
import sys

from lab.child import Child, reap
from lab.stack import Stack
from machine.config import Settings
from machine.control import Channel
from machine.launch import SETTINGS_SIGNAL

DEAF = """
import signal, sys
from machine.control import Channel
signals = {{{number}}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
control = Channel.from_fd(int(sys.argv[1]))
control.send({{"event": "ready"}})
for _ in range({missed} + 1):
    signal.sigwait(signals)
control.receive(0)
control.send({{"event": "set"}})
"""


def test_settings_are_announced_until_they_are_answered():
    """The first two signals go unheard, and the settings are taken over all the same."""
    here, there = Channel.pair()
    words = [sys.executable, "-c", DEAF.format(number=int(SETTINGS_SIGNAL), missed=2), str(there.fileno())]
    process = subprocess.Popen(words, pass_fds=[there.fileno()])
    there.close()
    child = Child("vmm", process, here, os.pidfd_open(process.pid))
    stack = Stack(Settings(), -1, -1, bytes(6))
    stack._children["vmm"] = child
    try:
        stack.ask("vmm", "ready", 20.0)
        stack.apply(Settings(mode="ports"))
        assert stack.settings.mode == "ports"
    finally:
        reap([child], 1.0)
