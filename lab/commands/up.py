"""``worldswitch up``: starts a stack and looks after it, in the foreground or as a daemon."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import Final

from lab import daemon
from lab.complaint import complain
from lab.options import DEFAULT_NAME, add_settings, settings_from
from lab.preflight import check_machine
from lab.stops import StopRequests
from machine.config import Settings
from machine.control import Channel, Message
from machine.errors import ControlError, StackError, WorldswitchError

__all__ = ["configure", "run", "summary"]

_PATIENCE_SECONDS: Final = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """The settings, and whether to stay."""
    add_settings(parser)
    parser.add_argument("--detach", action="store_true", help="return when the stack is up")


def run(args: argparse.Namespace) -> int:
    """0 when the stack was ended on request, or (--detach) is up."""
    settings = settings_from(args)
    if settings.pcap is not None:
        settings = dataclasses.replace(settings, pcap=str(Path(settings.pcap).absolute()))
    check_machine()
    return _detached(settings) if args.detach else _foreground(settings)


def summary(settings: Settings, *, detached: bool) -> str:
    """What a user who has just started a stack wants to know; some lines."""
    from netbackend.plan import NetworkPlan

    plan = NetworkPlan(settings.name)
    option = "" if settings.name == DEFAULT_NAME else f" --name {settings.name}"
    addresses = "   ".join(f"{role} {plan.stations[role].address}" for role in ("guest", "host", "peer", "native"))
    chosen = {key: getattr(settings, key) for key in ("profile", "mode", "driver", "link", "doorbell")}
    cpus = ",".join(map(str, settings.cpus))
    lines = [
        f"stack {settings.name} is up: "
        + ", ".join(f"{key} {value}" for key, value in chosen.items())
        + f", CPU {cpus}",
        f"  {addresses}",
        "try",
        f"  worldswitch exec{option} guest -- ping -c 3 {plan.peer.address}",
        f"  worldswitch status{option}",
        f"  worldswitch down{option}" if detached else f"end it with Ctrl-C, or worldswitch down{option}",
    ]
    return "\n".join(lines)


def _foreground(settings: Settings) -> int:
    with StopRequests() as stops:
        from lab.supervisor import Supervisor

        def up() -> None:
            with contextlib.suppress(OSError):  # nobody reads it: no reason to end
                print(summary(settings, detached=False), flush=True)

        Supervisor(settings, stops, complain).run(lambda: None, up)
    return 0


def _detached(settings: Settings) -> int:
    channel = daemon.launch(lambda report: _supervise(settings, report))
    try:
        answer = channel.receive(_PATIENCE_SECONDS)
    except KeyboardInterrupt:
        channel.send({"command": "stop"})  # the daemon, in a session of its own, has not seen the Ctrl-C
        answer = channel.receive(_PATIENCE_SECONDS)
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
    """The daemon's work; until the stack is up, a hang-up of the channel is a request to end."""
    from lab.supervisor import Supervisor

    report = _Report(channel)
    with StopRequests() as stops:
        stops.watch(channel.fileno())
        supervisor = Supervisor(settings, stops, report.say, epitaph=True)
        try:
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
