"""Namespaces where another /run lies below: a service, or `unshare --mount`, with a tmpfs of its own over /run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from netbackend import namespaces

SCRIPT = """
import os
from netbackend import namespaces
from netbackend.libc import CLONE_NEWNS, MS_PRIVATE, MS_REC, call, mount

call("unshare", CLONE_NEWNS)
mount("none", "/", "none", MS_REC | MS_PRIVATE)
for layer in ("outer", "inner"):
    assert os.system("mount -t tmpfs none /run") == 0, layer
    made = namespaces.create("ws-twin-guest")
assert namespaces.remove("ws-twin-guest", made)
assert not namespaces.remove("ws-twin-guest", made)
assert os.listdir("/run/netns") == []
os.system("umount -R /run")  # the outer one's is as it was
assert namespaces.remove("ws-twin-guest")
"""


def test_a_namespace_of_the_same_name_below_another_run_is_not_in_the_way() -> None:
    """It is none of ours: ours is removed without an error, and the other one is left alone."""
    before = namespaces.identity("ws-twin-guest")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert namespaces.identity("ws-twin-guest") == before
