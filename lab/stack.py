"""A running stack: shared objects, doorbells and the three processes, created together and ended together.

``Stack`` knows nothing of networks or run directories; it is given the two TAPs. The supervisor
(``lab.supervisor``), the benchmarks and the tests all start stacks through it. With a foreign guest (``lab.foreign``)
the guest is a program of another's making, or nobody, and vmm and vmapp are served by a socket.
"""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final

from lab.child import Child, epitaph, reap, spawn_role
from lab.foreign import ForeignGuest
from lab.hearing import Printed, text_of
from lab.keeper import Keeper
from lab.perfsupport import remove_maps
from lab.placement import place_guest
from lab.requests import ANSWER_SECONDS, Late, Requests, interrupted
from machine import layout
from machine.config import Settings
from machine.control import Channel, Message
from machine.errors import (
    ConfigError,
    ControlError,
    ProcessDiedError,
)
from machine.launch import SETTINGS_SIGNAL
from machine.wiring import ROLES
from netbackend.tap import enable_host_interrupts

__all__ = ["Stack"]

_START_SECONDS: Final = 20.0
_END_SECONDS: Final = 1.0
_REMIND_SECONDS: Final = 0.2


class Stack:
    """Guest, vmm and vmapp. Use as a context manager, or call ``close``; both may happen twice.

    ``guest_tap``, ``host_tap``: non-blocking TAP descriptors; they stay the caller's, as does ``capture``, the open
    file that vmapp writes a pcapng capture to. The processes get duplicates, which ``keeper`` owns. ``mac``: six bytes.
    ``foreign``: the guest, if it is not ours; it goes with a setting.
    """

    def __init__(
        self,
        settings: Settings,
        guest_tap: int,
        host_tap: int,
        mac: bytes,
        capture: int | None = None,
        foreign: ForeignGuest | None = None,
    ) -> None:
        if settings.foreign != (foreign is not None):
            raise ConfigError(f"guest {settings.guest}: whoever starts it has to bring what it needs")
        self.settings = settings
        self._foreign = foreign
        self._roles = ROLES if foreign is None else tuple(role for role in ROLES if role != "guest")
        self._taps = {"guest": guest_tap, "vmapp": host_tap}
        self._capture = capture
        self._mac = mac
        self._stops: tuple[int, ...] = ()
        self._started = False
        self.keeper = Keeper()
        self._children: dict[str, Child] = {}
        self.requests = Requests()

    # -- start ----------------------------------------------------------------------------------------------

    def start(self, stops: Sequence[int] = (), spawned: Callable[[], None] = lambda: None) -> None:
        """Creates everything and lets the guest boot; returns when its driver is up.

        ``stops``: descriptors; StartInterruptedError as soon as one is readable. ``spawned`` is called when the
        processes exist, and still end by themselves if this one does. ProcessDiedError, with the process's own
        words where it had any, if one of them does not make it.
        """
        self._stops = tuple(stops)
        self._create_objects()
        for role in self._roles:
            self._spawn(role)
        spawned()
        for role in self._roles:
            self.send(role, self._record(role))
        deadline = time.monotonic() + _START_SECONDS
        for role in self._roles:
            self._expect(self._children[role], "ready", deadline)
        self.keeper.unlink_semaphores()
        enable_host_interrupts(self._taps["vmapp"], self.pids["vmm"])
        for role in reversed(self._roles):
            self.send(role, {"command": "go"})
        if self._foreign is None:
            self._expect(self._children["guest"], "running", deadline)
        elif self._foreign.words:
            self._children["guest"] = self._foreign.spawn("guest", self.settings.cpus)
            spawned()
            self._expect(self._children["vmm"], "running", deadline)  # when it has asked the device for something
            place_guest(self.pids, self.settings.cpus)
        self._started = True
        self._stops = ()  # they were for the start

    def _create_objects(self) -> None:
        keeper = self.keeper
        keeper.make(self.settings)
        for role, tap in self._taps.items():
            if role in self._roles:
                keeper.lend(role, "tap", tap)
        if self._capture is not None:
            keeper.lend("vmapp", "pcap", self._capture)
        if self._foreign is not None:
            keeper.lend("vmm", "listener", self._foreign.listener.fileno())

    def _spawn(self, role: str) -> None:
        self._children[role] = spawn_role(role, self.keeper.of(role).values(), profiling=self.settings.profiling)

    def _record(self, role: str) -> Message:
        return {
            "settings": self.settings.as_map(),
            "fds": self.keeper.of(role),
            "semaphores": dict(self.keeper.semaphores),
            "mac": self._mac,
        }

    def _expect(self, child: Child, event: str, deadline: float, remind: Callable[[], object] | None = None) -> Message:
        """Waits for the child's message; whichever process dies first ends the wait. ``remind``: see ``tell``.

        The child is not trusted: nothing that it sends, or how much, keeps this from looking at the clock, at the
        other processes and at a request to stop in each round.
        """
        control = self._control(child.role)
        while True:
            ready = self._ready(control, deadline, remind)
            if not ready or time.monotonic() >= deadline:
                raise ProcessDiedError(f"{child.role} did not report {event!r} in time")
            if ready.intersection(self._stops):
                raise interrupted(started=self._started)
            if control.fileno() in ready:
                message = self._receive(child)
                if message.get("event") == event:
                    return message
                if message.get("event") == "failed":
                    raise ProcessDiedError(f"{child.role}: {text_of(message, 'message') or 'it does not say why'}")
            died = self.died()
            if died is not None:
                raise ProcessDiedError(died)

    def _receive(self, child: Child) -> Message:
        """A message that waits; ProcessDiedError if it is none, or the child has closed its end."""
        try:
            message = self._control(child.role).receive(0.0)
        except ControlError as error:
            raise ProcessDiedError(f"{child.role}: {error}") from None
        if message is None:
            select.select([child.pidfd], (), (), _END_SECONDS)  # a process that ends closes its descriptors first
            raise ProcessDiedError(self.died() or f"{child.role} has closed its control channel")
        return message

    def _ready(self, control: Channel, deadline: float, remind: Callable[[], object] | None) -> set[int]:
        """What has come: a message on ``control``, a process's end, a request to stop; empty: the time is over."""
        poll = select.poll()
        for fd in (control.fileno(), *self.pidfds.values(), *self._stops):
            poll.register(fd, select.POLLIN)
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready = poll.poll(min(left, _REMIND_SECONDS) * 1000)
            if ready or not left:
                return {fd for fd, _ in ready}
            if remind is not None:
                remind()

    # -- while it runs ----------------------------------------------------------------------------------------

    @property
    def pids(self) -> dict[str, int]:
        """Role -> process id."""
        return {role: child.process.pid for role, child in self._children.items()}

    def heed(self, stops: Sequence[int]) -> None:
        """From now on, no answer is waited for once one of the descriptors ``stops`` is readable: StackError."""
        self._stops = tuple(stops)

    @property
    def counters(self) -> dict[str, memoryview]:
        """Role -> a copy of its counter page (``machine.counters``), taken now."""
        return {role: self.keeper.page(role, "counters").words() for role in ROLES}

    @property
    def lance(self) -> memoryview:
        """A copy of the Lance's state (``machine.lance.state``), taken now."""
        return self.keeper.page("vmm", "world").words("I", layout.LANCE_OFFSET)

    @property
    def printed(self) -> dict[str, Printed]:
        """Role -> what it prints, for whoever wants to pass it on."""
        return {role: child.printed for role, child in self._children.items() if child.printed is not None}

    @property
    def pidfds(self) -> dict[str, int]:
        """Role -> pidfd, readable when the process has ended."""
        return {role: child.pidfd for role, child in self._children.items()}

    @property
    def controls(self) -> dict[str, Channel]:
        """Role -> control channel, readable when the process says something; {"event": "notice"} is for the user."""
        return {role: child.control for role, child in self._children.items() if child.control is not None}

    def hear(self, role: str, message: Message) -> None:
        """Takes what a process has said while nobody waited for it: a late answer, or why it is about to end."""
        if message.get("event") == "failed":
            self._children[role].failure = text_of(message, "message")
        self.requests.hear(role, message)

    def _control(self, role: str) -> Channel:
        control = self._children[role].control
        assert control is not None
        return control

    def died(self) -> str | None:
        """One line on the first process found dead, its own last words included; None while all live."""
        for child in self._children.values():
            if child.process.poll() is not None:
                program = self._foreign if child.control is None else None
                return epitaph(child, "" if program is None else program.last_words())
        return None

    @property
    def powered_off(self) -> bool:
        """Whether a foreign guest has ended of its own accord, as a machine that is switched off."""
        return self._foreign is not None and "guest" in self._children and self._children["guest"].process.poll() == 0

    def send(self, role: str, message: dict[str, Any]) -> None:
        """A control message to one process; ProcessDiedError if one has ended, ControlError if it cannot be sent."""
        try:
            self._control(role).send(message)
        except ControlError:
            select.select([self._children[role].pidfd], (), (), _END_SECONDS)  # as in _receive
            died = self.died()
            if died is None:
                raise
            raise ProcessDiedError(died) from None

    def ask(self, role: str, event: str, seconds: float) -> Message:
        """The next ``event`` from one process; ProcessDiedError when one dies first or time runs out."""
        return self._expect(self._children[role], event, time.monotonic() + seconds)

    def apply(self, settings: Settings) -> None:
        """Takes over what may change live (``vmm.livesettings``); ConfigError if the vmm refuses."""
        self.tell("vmm", {"settings": settings.as_map()}, partial(setattr, self, "settings", settings))
        self.settings = settings

    def plug(self, cable: bool) -> None:
        """Plugs the virtual NIC's cable in, or pulls it."""
        self.tell("vmm", {"cable": cable})

    def trace_fds(self) -> dict[str, int]:
        """Role -> descriptor of its trace buffer (``machine.trace``)."""
        return {role: self.keeper.fd(role, "trace") for role in ROLES}

    def tell(self, role: str, message: Message, late: Late = None, seconds: float = ANSWER_SECONDS) -> None:
        """Something to take over now (``machine.livecontrol``); errors, ``late``, ``seconds`` as ``Requests.tell``."""
        child = self._children[role]
        # Again and again: Python handles a signal that comes just before a sleep when the sleep ends, or with the next.
        remind = partial(signal.pidfd_send_signal, child.pidfd, SETTINGS_SIGNAL)
        expect = partial(self._expect, child, "set", remind=remind)
        self.requests.tell(role, message, late, seconds, partial(self.send, role), remind, expect)

    # -- end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the processes, gently and then not, and gives every shared object back."""
        reap(self._children.values(), _END_SECONDS)
        if self.settings.profiling:
            remove_maps(self.pids.values())
        self._children = {}
        self.keeper.close()

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
