"""``worldswitch up``: starts a stack and looks after it, in the foreground or as a daemon.

With a foreign guest in the foreground, the terminal is the guest's console: Ctrl-C reaches the guest, and Ctrl-A X is
the way out.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Final

from lab import daemon
from lab.complaint import complain
from lab.options import DEFAULT_NAME, add_guest, add_settings, settings_from
from lab.outfile import apart_from
from lab.preflight import check_machine
from lab.rundir import RunDirectory
from lab.stops import StopRequests, exit_status_of
from lab.streams import patient
from lab.textlayout import fields, wrapped
from lab.verbose import retell
from machine.config import Settings
from machine.control import Channel, Message
from machine.descriptors import named_descriptor
from machine.errors import ConfigError, ControlError, StackError, WorldswitchError

__all__ = ["configure", "run", "summary"]

_PATIENCE_SECONDS: Final = 60.0
_BOOTING: Final = "the guest boots now, which takes 5 to 20 s; a stock kernel is quiet meanwhile"
_SHOWN: Final = ("profile", "mode", "driver", "link", "doorbell")


def configure(parser: argparse.ArgumentParser) -> None:
    """The settings, and whether to stay."""
    add_settings(parser)
    add_guest(parser)
    parser.add_argument("--detach", action="store_true", help="return when the stack is up")


def run(args: argparse.Namespace) -> int:
    """0 when the stack was ended on request, or (--detach) is up."""
    settings = settings_from(args)
    if settings.guest == "none":
        raise ConfigError("a stack whose guest is not started here: `worldswitch serve SOCKET`")
    _check_capture(settings, detached=args.detach)
    check_machine()
    with apart_from(settings.pcap):
        if settings.foreign:
            _announce(settings)
        return _detached(settings) if args.detach else _foreground(settings)


def _check_capture(settings: Settings, *, detached: bool) -> None:
    """A capture may go to standard output only where that stays ours, and nobody else writes to it."""
    if settings.pcap is None or named_descriptor(settings.pcap) not in (0, 1, 2):
        return
    if detached:
        raise ConfigError(f"--pcap {settings.pcap}: a stack with --detach has no standard output; name a file")
    if settings.foreign:
        raise ConfigError(f"--pcap {settings.pcap}: standard output is the guest's console; name a file")


def summary(settings: Settings, *, detached: bool) -> str:
    """What a user who has just started a stack wants to know; some lines."""
    from netbackend.plan import NetworkPlan

    plan = NetworkPlan(settings.name)
    option = "" if settings.name == DEFAULT_NAME else f" --name {settings.name}"
    addresses = (f"{role} {plan.stations[role].address}" for role in ("guest", "host", "peer", "native"))
    shown = ("profile", "mode", "link", "guest", "memory", "accel") if settings.foreign else _SHOWN
    chosen = {key: getattr(settings, key) for key in shown}
    cpus = ",".join(map(str, settings.cpus))
    first = f"stack {settings.name} is up: " + ", ".join(f"{key} {value}" for key, value in chosen.items())
    lines = [
        wrapped(f"{first}, CPU {cpus}", hanging="  "),
        *fields(addresses, label="  "),
        *(_console(settings, option, detached) if settings.foreign else _try(plan.peer.address, option, detached)),
    ]
    return "\n".join(lines)


def _announce(settings: Settings) -> None:
    """The first sign of life, for what follows takes seconds."""
    with contextlib.suppress(OSError):  # nobody reads it: no reason to end
        print(f"starting a guest under QEMU ({settings.accel}, {settings.memory})", flush=True)


def _try(peer: str, option: str, detached: bool) -> Iterator[str]:
    yield "try"
    yield f"  worldswitch exec{option} guest ping -c 3 {peer}"
    yield f"  worldswitch status{option}"
    yield f"  worldswitch down{option}" if detached else f"end it with Ctrl-C, or worldswitch down{option}"


def _console(settings: Settings, option: str, detached: bool) -> Iterator[str]:
    """What there is to know about the guest's console."""
    if detached:
        yield f"  console {RunDirectory(settings.name).console}"
        yield f"  {_BOOTING}"
        yield f"  worldswitch status{option}"
        yield f"  worldswitch down{option}"
    else:
        text = f"this is the guest's console; power the guest off, or press Ctrl-A X, or worldswitch down{option}"
        yield wrapped(text, hanging="  ")
        yield _BOOTING


def _foreground(settings: Settings) -> int:
    with StopRequests() as stops:
        from lab.supervisor import Supervisor

        def up() -> None:
            with patient():  # nobody reads it: no reason to end
                print(summary(settings, detached=False), flush=True)

        Supervisor(settings, stops, complain, terminal=True).run(lambda: None, up)
    return 0


def _detached(settings: Settings) -> int:
    channel = daemon.launch(lambda report: _supervise(settings, report))
    try:
        answer = channel.receive(_PATIENCE_SECONDS)
    except KeyboardInterrupt as interruption:
        channel.send({"command": "stop"})  # the daemon, in a session of its own, has not seen the signal
        answer = channel.receive(_PATIENCE_SECONDS)
        if answer is not None and answer["event"] == "failed":
            answer["status"] = exit_status_of(interruption)
    if answer is None:
        raise StackError("the supervisor has ended without a word; try without --detach")
    for line in answer.get("notes", []):
        complain(line)
    if answer["event"] != "up":
        error = StackError(answer["message"])
        error.exit_status = answer["status"]
        raise error
    print(summary(settings, detached=True))
    return 0


def _supervise(settings: Settings, channel: Channel) -> None:
    """The daemon's work; until the stack is up, a hang-up of the channel is a request to end.

    All of it is within the try: what fails before the supervisor is there is a failure to start like any other.
    """
    report = _Report(channel)
    retell(report.say)
    try:
        from lab.supervisor import Supervisor

        with StopRequests() as stops:
            stops.watch(channel.fileno())
            supervisor = Supervisor(settings, stops, report.say, epitaph=True)
            supervisor.run(lambda: daemon.log_to(supervisor.directory.log), report.up)
    except WorldswitchError as error:
        report.failed(error)


class _Report:
    """What a daemon says: to whoever started it until the stack is up, then to its log."""

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        self._notes: list[str] = []

    def say(self, line: str) -> None:
        if self._channel is None:
            complain(line)
            daemon.trim_log()
        else:
            self._notes.append(line)

    def up(self) -> None:
        self._send({"event": "up"})
        self._channel = None

    def failed(self, error: WorldswitchError) -> None:
        self._send({"event": "failed", "message": str(error), "status": error.exit_status})
        self.say(str(error))

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            with contextlib.suppress(ControlError):
                self._channel.send(message | {"notes": self._notes})
