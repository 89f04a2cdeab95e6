"""Finishing a supervisor's work when it could not: by the record in the run directory, and by nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lab import inhabitants, processes
from lab.complaint import complain
from lab.perfsupport import remove_maps
from lab.rundir import Record, RunDirectory
from machine.errors import StackError, WorldswitchError
from netbackend import namespaces, topology
from vmm.vfiouser.listen import listen

__all__ = ["clean", "end_inhabitants"]

_SHARED_MEMORY: Final = Path("/dev/shm")
_OURS: Final = ("worldswitch-", "sem.worldswitch-")
_SECONDS: Final = 2.0


def clean(directory: RunDirectory, record: Record, say: Callable[[str], None] = complain) -> None:
    """Ends and removes what ``record`` lists and is still there. The caller holds the directory's lock.

    The record stays until its owner releases the directory, so a clean-up that fails can be repeated.
    """
    if not processes.end(record["processes"].values(), signal.SIGKILL, _SECONDS):
        raise StackError(f"processes of stack {directory.name!r} do not end; try `worldswitch down` again")
    if record["settings"].get("profiling"):
        remove_maps(identity["pid"] for identity in record["processes"].values())
    end_inhabitants(directory, record, say)
    topology.remove(record["network"])
    for name, made in topology.left_of(record["network"], record["planned"]).items():
        namespaces.remove(name, made)  # none of these existed when the record was begun
    _remove_shared_memory(record["supervisor"])
    _remove_socket(record["settings"].get("socket"))


def end_inhabitants(directory: RunDirectory, record: Record, say: Callable[[str], None]) -> None:
    """Ends the programs on the stack's machines, and names them in a line; not if the user wants to keep them."""
    spared = inhabitants.spared_by_down(directory)
    if spared is None:
        return
    found, left = inhabitants.end_programs(record, spared)
    if found:
        say(f"ended what still ran on the machines of stack {directory.name}: {inhabitants.listed(found)}")
    if left:
        say(f"programs of stack {directory.name} do not end: {inhabitants.listed(left)}")


def _remove_shared_memory(creator: processes.Identity) -> None:
    """Removes objects whose creator, named in each (``machine.shm``, ``lab.stack``), died before unlinking them."""
    if processes.identify(creator["pid"])["started"] not in (0, creator["started"]):
        return  # another process has the number now, and may be creating objects
    for name in os.listdir(_SHARED_MEMORY):
        if name.startswith(_OURS) and name.split("-")[-2:-1] == [str(creator["pid"])]:
            with contextlib.suppress(FileNotFoundError):
                (_SHARED_MEMORY / name).unlink()


def _remove_socket(path: str | None) -> None:
    """Removes the socket file at which nobody serves any more; one that another server has now stays."""
    if path is None or not Path(path).is_socket():
        return
    with contextlib.suppress(WorldswitchError):
        listen(Path(path)).close()
        Path(path).unlink(missing_ok=True)
