"""A thread with mounts of its own: an empty /run, as on a machine where nobody has made a namespace yet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from netbackend.libc import CLONE_NEWNS, MS_PRIVATE, MS_REC, call, mount

__all__ = ["mounted_on", "with_own_run"]

T = TypeVar("T")


def with_own_run(function: Callable[[], T]) -> T:
    """What ``function()`` returns or raises in such a thread; programs that it starts see the same mounts."""

    def inside() -> T:
        call("unshare", CLONE_NEWNS)
        mount("none", "/", "none", MS_REC | MS_PRIVATE)
        mount("tmpfs", "/run", "tmpfs", 0)
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(inside).result()


def mounted_on(prefix: str) -> list[str]:
    """The mount points of the calling thread that begin with ``prefix``, one for each mount."""
    with open("/proc/thread-self/mountinfo") as file:
        return [line.split()[4] for line in file if line.split()[4].startswith(prefix)]
