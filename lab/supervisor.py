"""The supervisor: makes a stack, watches it, answers for it, and removes all of it however it ends.

Whatever it makes is in the record of the run directory (``lab.rundir``) before or as it is made, so that a
supervisor that was killed leaves nothing that ``lab.recovery`` does not find.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Final

from lab import processes, recovery, status
from lab.clients import Clients
from lab.foreign import foreign_guest
from lab.liveset import set_live
from lab.rundir import Record, RunDirectory, state_of
from lab.stack import Stack
from lab.stops import StopRequests
from lab.tracing.switch import TraceService
from lab.voices import MUTED_SECONDS, Voices
from machine.activity import note
from machine.config import Settings
from machine.control import Message
from machine.errors import ProcessDiedError, StackError, StartInterruptedError, WorldswitchError
from machine.lance.registers import describe
from machine.process import set_name
from netbackend import namespaces
from netbackend.capturefile import open_capture
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import Network, build, left_of

__all__ = ["Supervisor"]

_PROCESS_NAME: Final = "worldswitch"

Say = Callable[[str], None]


class Supervisor:
    """One stack, from its first namespace to the last removal. ``say`` takes one line for the user.

    ``epitaph``: a stack that ends by itself leaves a record that says why, for ``status``; for detached ones.
    ``terminal``: a foreign guest has this process's terminal as its console.
    """

    def __init__(
        self, settings: Settings, stops: StopRequests, say: Say, *, epitaph: bool = False, terminal: bool = False
    ) -> None:
        self._terminal = terminal
        self.settings = settings
        self.plan = NetworkPlan(settings.name)
        self.directory = RunDirectory(settings.name)
        self._stops = stops
        self._say = say
        self._epitaph = epitaph
        self._record: Record = {}
        self._stack: Stack | None = None
        self._network: Network | None = None
        self._tracing = TraceService()

    def run(self, claimed: Callable[[], None], up: Callable[[], None]) -> None:
        """Returns when somebody asked it to end. ``claimed`` is called when the name is its own, ``up`` at "go".

        ProcessDiedError if a process ends unasked, StartInterruptedError if the request came during the start,
        any other WorldswitchError if the start fails; each time everything has been removed.
        """
        set_name(_PROCESS_NAME)
        with contextlib.ExitStack() as undo:
            self.directory.claim()
            undo.push(self._leave)
            self._clear()
            claimed()
            try:
                stack = self._start(undo)
                clients = self._listen(undo)
                self._note_running()
            except StartInterruptedError as error:
                error.exit_status = self._stops.exit_status
                raise
            up()
            self._stops.watch(None)
            self._serve(stack, clients)
            self._stops.check_usual()

    @contextlib.contextmanager
    def held(self) -> Iterator[Stack]:
        """The stack for as long as the block lasts, with a record like any other's, but without a control socket."""
        with contextlib.ExitStack() as undo:
            self.directory.claim()
            undo.push(self._leave)
            self._clear()
            stack = self._start(undo)
            self._note_running()
            yield stack

    @property
    def network(self) -> Network:
        """The network of a stack that has started."""
        assert self._network is not None
        return self._network

    # -- start ----------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Finishes what an earlier supervisor of this name left; then begins the record."""
        left = self.directory.load()
        if left is not None:
            if state_of(left) == "dead":
                self._say(f"the supervisor of the last stack {self.settings.name!r} was killed: cleaning up after it")
            recovery.clean(self.directory, left, self._say)
            self.directory.forget()
        planned = [station.namespace for station in self.plan.stations.values()]
        for name in planned:
            if namespaces.identity(name) is not None:
                raise StackError(f"network namespace {name} exists, and is not ours: `ip netns delete {name}`")
        note("settings: %s", self.settings.as_map())
        self._record = {
            "state": "starting",
            "reason": None,
            "supervisor": processes.identify(os.getpid()),
            "settings": self.settings.as_map(),
            "planned": planned,
            "network": {"stack": self.settings.name, "namespaces": []},
            "processes": {},
        }
        self.directory.save(self._record)

    def _start(self, undo: contextlib.ExitStack) -> Stack:
        settings = self.settings
        self._stops.check()
        capture = None
        if settings.pcap is not None:
            capture = open_capture(settings.pcap)
            undo.callback(os.close, capture)
        network = self._network = undo.enter_context(build(self.plan, parse_rate(settings.link), self._note_network))
        undo.callback(recovery.end_inhabitants, self.directory, self._record, self._say)  # while they can be found
        mac = bytes.fromhex(self.plan.guest.mac.replace(":", ""))
        foreign = None
        if settings.foreign:
            foreign = undo.enter_context(foreign_guest(settings, self.plan, self.directory, terminal=self._terminal))
        stack = self._stack = Stack(settings, network.guest_tap, network.host_tap, mac, capture, foreign)
        undo.callback(stack.close)
        self._stops.check()
        stack.start(self._stops.fds, self._note_processes)
        network.close_taps()
        return stack

    def _note_running(self) -> None:
        self._record["state"] = "running"
        self.directory.save(self._record)

    def _note_network(self, record: Record) -> None:
        self._record["network"] = record
        self.directory.save(self._record)
        self._stops.check()

    def _note_processes(self) -> None:
        assert self._stack is not None
        self._record["processes"] = {role: processes.identify(pid) for role, pid in self._stack.pids.items()}
        self.directory.save(self._record)

    def _listen(self, undo: contextlib.ExitStack) -> Clients:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
        self.directory.socket.unlink(missing_ok=True)
        listener.bind(str(self.directory.socket))
        clients = Clients(listener)
        undo.callback(clients.close)
        note("answering at %s", self.directory.socket)
        return clients

    # -- while it runs ----------------------------------------------------------------------------------------

    def _serve(self, stack: Stack, clients: Clients) -> None:
        """Sleeps until there is something to do; returns on a request to end, which is looked at in each round."""
        stack.heed(self._stops.fds)
        voices = Voices(stack.controls, stack.printed, self._say, stack.hear)
        while True:
            ready = self._sleep(stack, clients, voices)
            if ready.intersection(self._stops.fds):
                return
            if stack.powered_off:
                self._say(f"the guest is switched off: stack {self.settings.name!r} is down")
                return
            if ready.intersection(stack.pidfds.values()):
                voices.finish()
            died = stack.died()
            if died is not None:
                raise ProcessDiedError(f"{died}; stack {self.settings.name!r} is down")
            clients.drop_silent()
            for fd in ready:
                voices.read(fd)
                clients.serve(fd, lambda request: self._answer(request, stack))

    def _sleep(self, stack: Stack, clients: Clients, voices: Voices) -> set[int]:
        """The descriptors that have something to say; perhaps none, when it is time to look at the clock."""
        poll = select.poll()
        for fd in (*self._stops.fds, *stack.pidfds.values(), *voices.fds, *clients.fds):
            poll.register(fd, select.POLLIN)
        waits = [seconds for seconds in (clients.seconds_left(),) if seconds is not None]
        if voices.muted:
            waits.append(MUTED_SECONDS)
        return {fd for fd, _ in poll.poll(min(waits) * 1000 if waits else None)}

    def _answer(self, request: Message, stack: Stack) -> Message:
        answers = {
            "status": self._measure,
            "set": self._change,
            "registers": self._registers,
            "trace": self._tracing.serve,
        }
        answer = answers.get(str(request.get("command")))
        try:
            if answer is None:
                raise StackError("the supervisor of this stack knows no such request: is it of an older version?")
            return answer(request, stack)
        except WorldswitchError as error:
            return {"event": "failed", "message": str(error), "status": error.exit_status}

    def _measure(self, _request: Message, stack: Stack) -> Message:
        return {"event": "status", **status.measure(stack)}

    def _registers(self, _request: Message, stack: Stack) -> Message:
        return {"event": "registers", "text": describe(stack.lance)}

    def _change(self, request: Message, stack: Stack) -> Message:
        """New settings, and the cable, while the stack runs."""
        network = self._record["network"]
        settings = set_live(request, stack, self.settings, network, self._note_settings, self._try)
        return {"event": "set", "settings": settings.as_map()}

    def _note_settings(self, settings: Settings) -> None:
        """The record first: if it cannot be written, nothing has been noted."""
        note("settings: %s", settings.as_map())
        self.directory.save(self._record | {"settings": settings.as_map()})
        self._record["settings"] = settings.as_map()
        self.settings = settings
        if self._stack is not None:
            self._stack.settings = settings

    def _try(self, function: Callable[..., object], *arguments: object) -> None:
        """Something for which nobody waits: a failure is only said."""
        try:
            function(*arguments)
        except WorldswitchError as error:
            self._say(f"what runs may not be what `worldswitch status` shows: {error}")

    # -- end --------------------------------------------------------------------------------------------------

    def _leave(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """The last step: gives up the name. Whatever could not be removed keeps its record, for ``down``."""
        reason = str(error) if isinstance(error, WorldswitchError) else f"a defect: {error!r}"
        if not self._record:  # never begun: any record there is an earlier supervisor's
            self.directory.release(keep_record=self.directory.recorded)
        elif left_of(self._record["network"], self._record["planned"]):
            self._keep_record("unclean", reason)
        elif self._epitaph and self._record["state"] == "running" and error is not None:
            self._record |= {"planned": [], "processes": {}, "network": {"namespaces": []}}
            self._keep_record("stopped", reason)
        else:
            self.directory.release()

    def _keep_record(self, state: str, reason: str) -> None:
        """Gives up the name, but not the record; what it says already has to do if there is no room for more."""
        try:
            self.directory.save(self._record | {"state": state, "reason": reason})
        finally:
            self.directory.release(keep_record=True)
