"""The path by VDE (Virtual Distributed Ethernet, Debian's vde2): three C processes that only copy frames.

::

    guest: eth0 (TAP) -- vde_plug2tap -- vde_switch -- vde_plug2tap -- tap0 (TAP) :host

As many processes as the stack has, as many copies or more, and no virtual NIC: what process changes and copies alone
cost on this machine, in C.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from lab.load.place import Place, Program, check_running, find_program, started
from machine.errors import BenchError
from netbackend.plan import HOST_TAP
from netbackend.topology import Network

__all__ = ["available", "vde"]

_SWITCH: Final = "vde_switch"
_PLUG: Final = "vde_plug2tap"
_PACKAGE: Final = "vde2"
_START_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01


def available() -> bool:
    """Whether this machine has vde2."""
    return shutil.which(_SWITCH) is not None and shutil.which(_PLUG) is not None


@contextmanager
def vde(network: Network, cpus: Sequence[int] = ()) -> Iterator[dict[str, int]]:
    """Guest and host TAP of ``network`` joined by VDE, its three processes on ``cpus``, while the block runs.

    Yields name -> pid. Takes the TAPs' descriptors for that time (``Network.lent_taps``). SetupError without vde2,
    BenchError if one of the processes does not start, or ends before the block does.
    """
    switch, plug = find_program(_SWITCH, _PACKAGE), find_program(_PLUG, _PACKAGE)
    plan = network.plan
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="worldswitch-vde-")), "switch")
        stack.enter_context(network.lent_taps())
        programs: dict[str, Program] = {}

        def start(name: str, place: Place | None, *command: str) -> None:
            programs[name] = stack.enter_context(started(command, place, cpus=cpus))

        # It reads commands from its standard input, and ends with it: an open pipe keeps it, and ends it with us.
        start("switch", None, switch, "-s", str(directory), "-f", os.devnull)
        _await(programs, "make its socket", (directory / "ctl").exists)
        start("guest plug", Place.of(plan.guest, cpus), plug, "-s", str(directory), plan.guest.interface)
        start("host plug", Place.of(plan.host, cpus), plug, "-s", str(directory), HOST_TAP)
        _await(programs, "connect", lambda: _ports(directory) == 2)
        yield {name: program.pid for name, program in programs.items()}
        _check(programs)


def _ports(directory: Path) -> int:
    """Plugs that are connected. Each opens its TAP first; ".pid-n" is its socket while it still negotiates."""
    names = [entry.name for entry in directory.iterdir() if entry.name != "ctl"]
    return 0 if any(name.startswith(".") for name in names) else len(names)


def _await(programs: dict[str, Program], action: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        _check(programs)
        if time.monotonic() > deadline:
            raise BenchError(f"VDE did not {action} within {_START_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def _check(programs: dict[str, Program]) -> None:
    for name, program in programs.items():
        check_running(program, f"VDE's {name}")
