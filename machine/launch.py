"""How a process of the stack starts: the launch record, the shared pages it maps, its doorbells.

The supervisor creates every shared object, passes the descriptors down by inheritance and sends one record
over the control channel. ``start`` turns that into a :class:`Station`, the process's place in the machine.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

import posix_ipc

from machine import layout, signalpipe
from machine.config import Settings
from machine.control import Channel
from machine.doorbell import SPIN_LOADS, Doorbell, EventfdBell, SemaphoreBell, SignalBell, SpinBell
from machine.errors import ControlError, WorldswitchError
from machine.livecontrol import LiveControl, LiveHandler
from machine.process import confine, die_with_parent, drop_privileges, forbid, leave_network, pin, set_name
from machine.shm import attach
from machine.trace import TRACE_BYTES
from machine.wiring import INTERRUPTS, RINGS, ROLES, bell, interrupt

__all__ = ["IRQ_SIGNAL", "ROLES", "SETTINGS_SIGNAL", "Station", "run_role"]

IRQ_SIGNAL: Final = signal.SIGURG  # vmm -> guest: look at the interrupt mailbox; vmm -> vmapp: come back
SETTINGS_SIGNAL: Final = signal.SIGUSR1  # supervisor -> process: a control message waits


@dataclasses.dataclass(slots=True)
class Station:
    """One process's view of the machine. A page that the role must not touch is an empty memoryview."""

    role: str
    settings: Settings
    control: Channel
    ram: memoryview  # bytes
    gate: memoryview  # words of 64 bits, as are world and counters
    world: memoryview
    lance: memoryview  # words of 32 bits
    counters: memoryview
    bells: dict[str, Doorbell]
    interrupts: Mapping[str, Callable[[], object]]  # role -> what raises IRQ_SIGNAL in its process
    fds: dict[str, int]
    mac: bytes
    live: dict[str, LiveHandler] = dataclasses.field(default_factory=dict)  # key of a control message -> its handler


def _map(record: dict[str, Any], name: str, size: int) -> memoryview:
    fd = record["fds"].get(name)
    return memoryview(b"") if fd is None else attach(fd, size)


def _spin_flags(name: str, gate: memoryview, world: memoryview) -> list[tuple[memoryview, int]]:
    flags = {
        "guest": [(gate, layout.SLEEPS_GUEST)],
        "vmm": [(gate, layout.SLEEPS_VMM), (world, layout.SLEEPS_VMM_IN_WORLD)],
        "vmapp": [(world, layout.SLEEPS_VMAPP)],
    }
    return [(page, index) for page, index in flags[name] if len(page)]


def _make_bell(
    name: str, mine: bool, record: dict[str, Any], settings: Settings, flags: list[tuple[memoryview, int]]
) -> Doorbell:
    if settings.doorbell == "semaphore":
        return SemaphoreBell(posix_ipc.Semaphore(record["semaphores"][name]))
    fd = record["fds"][bell(name)]
    if settings.doorbell == "signal":
        return SignalBell(fd, mine=mine)
    if settings.doorbell == "eventfd":
        return EventfdBell(fd)
    return SpinBell(fd, flags, 0 if settings.one_cpu else SPIN_LOADS)


def _station(role: str, record: dict[str, Any], control: Channel) -> Station:
    settings = Settings.from_map(record["settings"])
    gate = _map(record, "gate", layout.GATE_BYTES).cast("Q")
    world_page = _map(record, "world", layout.WORLD_BYTES)
    world = world_page.cast("Q")
    bells = {
        name: _make_bell(name, name == role, record, settings, _spin_flags(name, gate, world))
        for name in (role, *RINGS[role])
    }
    fds = record["fds"]
    interrupts = {name: signalpipe.sender(fds[interrupt(name)]) for name in INTERRUPTS.get(role, ())}
    return Station(
        role=role,
        settings=settings,
        control=control,
        ram=_map(record, "ram", settings.ram_mib << 20),
        gate=gate,
        world=world,
        lance=world_page[layout.LANCE_OFFSET :].cast("I") if len(world_page) else world_page,
        counters=_map(record, "counters", layout.COUNTER_PAGE_BYTES).cast("Q"),
        bells=bells,
        interrupts=interrupts,
        fds=fds,
        mac=record["mac"],
    )


def _listen(station: Station) -> None:
    """Takes control messages at any moment; a role that must choose it has a handler of its own (``vmm.hostirq``)."""
    live = LiveControl(station.control, station.live)
    signal.signal(SETTINGS_SIGNAL, lambda *_: live.apply_waiting())


def _own_signals(station: Station) -> None:
    """What others signal this process by raises signals here from now on; the process has its final user."""
    mine = station.bells.get(station.role)
    if isinstance(mine, SignalBell):
        mine.own()
    own_interrupts = station.fds.get(interrupt(station.role))
    if own_interrupts is not None:
        signalpipe.own(own_interrupts, IRQ_SIGNAL)


def _end(number: int, _frame: FrameType | None) -> None:
    """SIGTERM: the first process of a PID namespace gets a signal only where it has a handler (pid_namespaces(7))."""
    os._exit(128 + number)


def _lock(station: Station, parent: int) -> None:
    """Gives up what the role needed for its start alone; ``machine.process`` says what, and why in this order."""
    drop_privileges()
    die_with_parent(parent)  # again: the kernel forgets the request when a process changes its user
    os.close(parent)
    _own_signals(station)
    # A capture is a file that grows, and that is cut back when the disk is full; all other files are shared pages.
    captures = "pcap" in station.fds
    forbid(None if captures else max(station.settings.ram_mib << 20, TRACE_BYTES))
    confine(resizing=captures)


def run_role(role: str, prepare: Callable[[Station], Callable[[], None]]) -> int:
    """The life of one process: launch record, ``prepare``, "ready", "go", then the loop that prepare returned.

    The last argument is the descriptor of the control channel. Returns the exit status; a deliberate failure is
    reported to the supervisor in one line.
    """
    set_name(role)
    signal.signal(signal.SIGTERM, _end)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):  # a terminal's: for the supervisor, if for anybody
        signal.signal(number, signal.SIG_IGN)
    control = Channel.from_fd(int(sys.argv[-1]))
    try:
        record = control.receive()
        if record is None:
            return 1
        parent = record["fds"].pop("parent")
        die_with_parent(parent)
        leave_network()
        station = _station(role, record, control)
        _listen(station)
        pin(station.settings.cpus)
        loop = prepare(station)
        _lock(station, parent)
        control.send({"event": "ready"})
        if control.receive() is None:
            return 1
        gc.freeze()  # what lives now lives to the end, and the loops make no reference cycles
        gc.disable()
        loop()
    except ControlError:
        return 1  # the supervisor is gone; there is nobody to tell
    except WorldswitchError as error:
        control.send({"event": "failed", "message": str(error)})
        return 1
    return 0
