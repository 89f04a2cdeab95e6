"""The supervisor: makes a stack, watches it, answers for it, and removes all of it however it ends.

Whatever it makes is in the record of the run directory (``lab.rundir``) before or as it is made, so that a
supervisor that was killed leaves nothing that ``lab.recovery`` does not find.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Final

from lab import processes, recovery, status
from lab.foreign import foreign_guest
from lab.livechange import CABLE, changed
from lab.rundir import Record, RunDirectory, state_of
from lab.stack import Stack
from lab.stops import StopRequests
from lab.tracing.switch import serve_trace
from machine.config import Settings
from machine.control import Channel, Message
from machine.errors import ControlError, ProcessDiedError, StackError, StartInterruptedError, WorldswitchError
from machine.lance.registers import describe
from machine.process import set_name
from netbackend import namespaces
from netbackend.capturefile import open_capture
from netbackend.plan import NetworkPlan
from netbackend.rate import parse_rate
from netbackend.topology import Network, build, set_link_rate

__all__ = ["Supervisor"]

_PROCESS_NAME: Final = "worldswitch"
_BACKLOG: Final = 8
_MOST_CLIENTS: Final = 16

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
        self._clients: dict[int, Channel] = {}

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
                listener = self._listen(undo)
                self._note_running()
            except StartInterruptedError as error:
                error.exit_status = self._stops.exit_status
                raise
            up()
            self._stops.watch(None)
            self._serve(stack, listener)

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
            recovery.clean(self.directory, left)
            self.directory.forget()
        planned = [station.namespace for station in self.plan.stations.values()]
        for name in planned:
            if namespaces.identity(name) is not None:
                raise StackError(f"network namespace {name} exists, and is not ours: `ip netns delete {name}`")
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

    def _listen(self, undo: contextlib.ExitStack) -> socket.socket:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
        self.directory.socket.unlink(missing_ok=True)
        listener.bind(str(self.directory.socket))
        listener.listen(_BACKLOG)
        return listener

    # -- while it runs ----------------------------------------------------------------------------------------

    def _serve(self, stack: Stack, listener: socket.socket) -> None:
        """Sleeps until there is something to do; returns on a request to end."""
        poll = select.poll()
        roles = {stack.controls[role].fileno(): role for role in stack.controls}
        for fd in (*self._stops.fds, *stack.pidfds.values(), *roles, listener.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if stack.powered_off:
                self._say(f"the guest is switched off: stack {self.settings.name!r} is down")
                return
            died = stack.died()
            if died is not None:
                raise ProcessDiedError(f"{died}; stack {self.settings.name!r} is down")
            for fd in ready:
                if fd in self._stops.fds:
                    return
                if fd in roles:
                    self._hear(stack.controls[roles[fd]], roles[fd], poll)
                elif fd == listener.fileno():
                    self._accept(listener, poll)
                elif fd in self._clients:
                    self._serve_client(fd, stack, poll)

    def _hear(self, control: Channel, role: str, poll: select.poll) -> None:
        """A process says something of its own accord: only notices are of interest."""
        try:
            message = control.receive(0.0)
        except ControlError:
            message = None
        if message is None:
            poll.unregister(control.fileno())
        elif message.get("event") == "notice":
            self._say(f"{role}: {message.get('message')}")

    def _accept(self, listener: socket.socket, poll: select.poll) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the client is gone already
            return
        if len(self._clients) >= _MOST_CLIENTS:
            connection.close()
            return
        self._clients[connection.fileno()] = Channel(connection)
        poll.register(connection.fileno(), select.POLLIN)

    def _serve_client(self, fd: int, stack: Stack, poll: select.poll) -> None:
        """One request, one answer, end of the connection."""
        poll.unregister(fd)
        client = self._clients.pop(fd)
        try:
            request = client.receive(0.0)
            if request is not None:
                client.send(self._answer(request, stack))
        except ControlError:
            pass
        finally:
            client.close()

    def _answer(self, request: Message, stack: Stack) -> Message:
        answers = {"status": self._measure, "set": self._change, "registers": self._registers, "trace": serve_trace}
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
        """New settings, and the cable, while the stack runs (``lab.livechange``)."""
        changes = request.get("changes", {})
        settings = changed(self.settings, changes)
        if settings.link != self.settings.link:
            set_link_rate(self._record["network"], parse_rate(settings.link))
            self._note_settings(dataclasses.replace(self.settings, link=settings.link))
        if settings != stack.settings:
            stack.apply(settings)
            self._note_settings(settings)
        if CABLE in changes:
            stack.plug(bool(changes[CABLE]))
        return {"event": "set", "settings": settings.as_map()}

    def _note_settings(self, settings: Settings) -> None:
        self.settings = settings
        self._record["settings"] = settings.as_map()
        self.directory.save(self._record)

    # -- end --------------------------------------------------------------------------------------------------

    def _leave(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """The last step: gives up the name. Whatever could not be removed keeps its record, for ``down``."""
        for client in self._clients.values():
            client.close()
        if not self._record:  # never begun: any record there is an earlier supervisor's
            self.directory.release(keep_record=self.directory.recorded)
        elif any(namespaces.identity(name) is not None for name in self._record["planned"]):
            self.directory.release(keep_record=True)
        elif self._epitaph and self._record["state"] == "running" and error is not None:
            reason = str(error) if isinstance(error, WorldswitchError) else f"a defect: {error!r}"
            empty = {"state": "stopped", "reason": reason, "planned": [], "processes": {}}
            self.directory.save(self._record | empty | {"network": {"namespaces": []}})
            self.directory.release(keep_record=True)
        else:
            self.directory.release()
