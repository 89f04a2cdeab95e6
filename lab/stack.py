"""A running stack: shared objects, doorbells and the three processes, created together and ended together.

``Stack`` knows nothing of networks or run directories; it is given the two TAPs. The supervisor
(``lab.supervisor``), the benchmarks and the tests all start stacks through it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

import posix_ipc

from lab.perfsupport import INTERPRETER_OPTIONS, remove_maps
from machine import layout
from machine.config import Settings
from machine.control import Channel, Message
from machine.errors import ConfigError, ControlError, ProcessDiedError, StartInterruptedError
from machine.launch import ROLES, SETTINGS_SIGNAL
from machine.shm import attach, create
from machine.trace import TRACE_BYTES
from netbackend.tap import enable_host_interrupts

__all__ = ["Stack"]

_START_SECONDS: Final = 20.0
_END_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0

_PAGES: Final = {"guest": ("ram", "gate"), "vmm": ("gate", "world"), "vmapp": ("ram", "gate", "world")}
_EVENTS: Final = {
    "guest": ("bell-guest", "bell-vmm", "wake"),
    "vmm": ("bell-guest", "bell-vmm", "bell-vmapp", "wake", "kick"),
    "vmapp": ("bell-guest", "bell-vmm", "bell-vmapp", "kick"),
}


@dataclasses.dataclass(slots=True)
class _Child:
    role: str
    process: subprocess.Popen[bytes]
    control: Channel
    pidfd: int


class Stack:
    """Guest, vmm and vmapp. Use as a context manager, or call ``close``; both may happen twice.

    ``guest_tap``, ``host_tap``: non-blocking TAP descriptors; they stay the caller's, as does ``capture``, the open
    file that vmapp writes a pcapng capture to. ``mac``: six bytes.
    """

    def __init__(
        self, settings: Settings, guest_tap: int, host_tap: int, mac: bytes, capture: int | None = None
    ) -> None:
        self.settings = settings
        self.counters: dict[str, memoryview] = {}
        self._taps = {"guest": guest_tap, "vmapp": host_tap}
        self._capture = capture
        self._mac = mac
        self._stops: tuple[int, ...] = ()
        self._fds: dict[str, int] = {}
        self._children: dict[str, _Child] = {}
        self._semaphores: dict[str, str] = {}
        self.world = memoryview(b"")
        self.lance = memoryview(b"")

    # -- start ----------------------------------------------------------------------------------------------

    def start(self, stops: Sequence[int] = (), spawned: Callable[[], None] = lambda: None) -> None:
        """Creates everything and lets the guest boot; returns when its driver is up.

        ``stops``: descriptors; StartInterruptedError as soon as one is readable. ``spawned`` is called when the
        processes exist, and still end by themselves if this one does. ProcessDiedError, with the process's own
        words where it had any, if one of them does not make it.
        """
        self._stops = tuple(stops)
        self._create_objects()
        for role in ROLES:
            self._spawn(role)
        spawned()
        for child in self._children.values():
            child.control.send(self._record(child.role))
        deadline = time.monotonic() + _START_SECONDS
        for child in self._children.values():
            self._expect(child, "ready", deadline)
        self._unlink_semaphores()
        enable_host_interrupts(self._taps["vmapp"], self.pids["vmm"])
        for role in ("vmapp", "vmm", "guest"):
            self._children[role].control.send({"command": "go"})
        self._expect(self._children["guest"], "running", deadline)
        self._stops = ()  # they were for the start

    def _create_objects(self) -> None:
        settings = self.settings
        for name, size in (
            ("ram", settings.ram_mib << 20),
            ("gate", layout.GATE_BYTES),
            ("world", layout.WORLD_BYTES),
            *((f"counters-{role}", layout.COUNTER_PAGE_BYTES) for role in ROLES),
            *((f"trace-{role}", TRACE_BYTES) for role in ROLES),
        ):
            self._fds[name] = create(name, size)
        for name in sorted({event for events in _EVENTS.values() for event in events}):
            self._fds[name] = os.eventfd(0, os.EFD_CLOEXEC)
        for role in ROLES:
            self.counters[role] = attach(self._fds[f"counters-{role}"], layout.COUNTER_PAGE_BYTES).cast("Q")
        page = attach(self._fds["world"], layout.WORLD_BYTES)
        self.world, self.lance = page.cast("Q"), page[layout.LANCE_OFFSET :].cast("I")
        if settings.doorbell == "semaphore":
            for role in ROLES:
                name = f"/worldswitch-{role}-{os.getpid()}-{secrets.token_hex(4)}"
                posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600).close()
                self._semaphores[role] = name

    def _unlink_semaphores(self) -> None:
        for name in self._semaphores.values():
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_semaphore(name)
        self._semaphores = {}

    def _role_fds(self, role: str) -> dict[str, int]:
        names = (*_PAGES[role], *_EVENTS[role])
        fds = {name: self._fds[name] for name in names}
        fds |= {name: self._fds[f"{name}-{role}"] for name in ("counters", "trace")}
        if role in self._taps:
            fds["tap"] = self._taps[role]
        if role == "vmapp" and self._capture is not None:
            fds["pcap"] = self._capture
        return fds

    def _spawn(self, role: str) -> None:
        here, there = Channel.pair()
        options = INTERPRETER_OPTIONS if self.settings.profiling else ()
        inherited = (*self._role_fds(role).values(), there.fileno())
        process = subprocess.Popen(
            [sys.executable, *options, "-P", "-m", role, str(there.fileno())],
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            cwd="/",
            process_group=0,  # the terminal's Ctrl-C is for the supervisor
        )
        there.close()
        self._children[role] = _Child(role, process, here, os.pidfd_open(process.pid))

    def _record(self, role: str) -> Message:
        return {
            "settings": self.settings.as_map(),
            "fds": self._role_fds(role),
            "pids": self.pids,
            "semaphores": self._semaphores,
            "mac": self._mac,
            "parent": os.getpid(),
        }

    def _expect(self, child: _Child, event: str, deadline: float) -> Message:
        """Waits for the child's message; whichever process dies first ends the wait."""
        while True:
            poll = select.poll()
            poll.register(child.control.fileno(), select.POLLIN)
            for other in self._children.values():
                poll.register(other.pidfd, select.POLLIN)
            for fd in self._stops:
                poll.register(fd, select.POLLIN)
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise ProcessDiedError(f"{child.role} did not report {event!r} in time")
            if any(fd in self._stops for fd, _ in ready):
                raise StartInterruptedError("the start was interrupted; everything is removed again")
            if any(fd == child.control.fileno() for fd, _ in ready):
                message = child.control.receive(1.0)
                if message is not None and message.get("event") == event:
                    return message
                if message is not None and message.get("event") == "failed":
                    raise ProcessDiedError(f"{child.role}: {message['message']}")
            died = self.died()
            if died is not None:
                raise ProcessDiedError(died)

    # -- while it runs ----------------------------------------------------------------------------------------

    @property
    def pids(self) -> dict[str, int]:
        """Role -> process id."""
        return {role: child.process.pid for role, child in self._children.items()}

    @property
    def pidfds(self) -> dict[str, int]:
        """Role -> pidfd, readable when the process has ended."""
        return {role: child.pidfd for role, child in self._children.items()}

    @property
    def controls(self) -> dict[str, Channel]:
        """Role -> control channel, readable when the process says something; {"event": "notice"} is for the user."""
        return {role: child.control for role, child in self._children.items()}

    def died(self) -> str | None:
        """One line on the first process found dead, its own last words included; None while all live."""
        for child in self._children.values():
            if child.process.poll() is not None:
                return _epitaph(child)
        return None

    def send(self, role: str, message: dict[str, Any]) -> None:
        """A control message to one process."""
        self._children[role].control.send(message)

    def ask(self, role: str, event: str, seconds: float) -> Message:
        """The next ``event`` from one process; ProcessDiedError when one dies first or time runs out."""
        return self._expect(self._children[role], event, time.monotonic() + seconds)

    def apply(self, settings: Settings) -> None:
        """Takes over what may change live (``vmm.livesettings``); ConfigError if the vmm refuses."""
        self.tell("vmm", {"settings": settings.as_map()})
        self.settings = settings

    def plug(self, cable: bool) -> None:
        """Plugs the virtual NIC's cable in, or pulls it."""
        self.tell("vmm", {"cable": cable})

    def trace_fds(self) -> dict[str, int]:
        """Role -> descriptor of its trace buffer (``machine.trace``)."""
        return {role: self._fds[f"trace-{role}"] for role in ROLES}

    def tell(self, role: str, message: Message) -> None:
        """Something to take over now (``machine.livecontrol``); ConfigError if the process refuses."""
        child = self._children[role]
        child.control.send(message)
        signal.pidfd_send_signal(child.pidfd, SETTINGS_SIGNAL)
        answer = self._expect(child, "set", time.monotonic() + _ANSWER_SECONDS)
        if "refused" in answer:
            raise ConfigError(str(answer["refused"]))

    # -- end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the processes, gently and then not, and gives every shared object back."""
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        for child in self._children.values():
            _reap(child, deadline)
        if self.settings.profiling:
            remove_maps(self.pids.values())
        self._children = {}
        self._unlink_semaphores()
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _epitaph(child: _Child) -> str:
    status = child.process.returncode
    how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
    with contextlib.suppress(ControlError):
        message = child.control.receive(0.0)
        if message is not None and "message" in message:
            how += f": {message['message']}"
    return f"process {child.role} (pid {child.process.pid}) {how}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal other than the first and the last has no name
        return f"signal {number}"


def _reap(child: _Child, deadline: float) -> None:
    try:
        child.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()
    child.control.close()
    os.close(child.pidfd)
