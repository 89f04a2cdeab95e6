"""A daemon reports how its start went to whoever asked for it, and to nobody else."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource
from lab import daemon
channel_of_two = 5  # descriptors: the three standard ones and the channel's ends; none is left for the log
resource.setrlimit(resource.RLIMIT_NOFILE, (channel_of_two, channel_of_two))
print(daemon.launch(lambda channel: None).receive(10)["message"])
"""


def test_a_limit_that_hits_before_there_is_a_log_is_one_line() -> None:
    """A daemon that may open nothing says so through its channel, once; no traceback goes to the caller's terminal."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, timeout=30, capture_output=True, text=True)
    assert "Too many open files" in done.stdout
    assert "see `ulimit -n`" in done.stdout
    assert done.stderr == ""
