"""``worldswitch serve``: the virtual NIC alone, behind a vfio-user socket; whoever connects is the guest."""

from __future__ import annotations

import argparse
import dataclasses
import os

from lab.arguments import absolute
from lab.complaint import complain
from lab.options import add_settings, settings_from
from lab.outfile import apart_from
from lab.preflight import check_machine
from lab.qemu import client_options
from lab.stops import StopRequests
from lab.streams import patient
from lab.textlayout import command_lines, wrapped
from machine.config import Settings

__all__ = ["configure", "run", "summary"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Where, and the settings."""
    parser.add_argument("socket", metavar="SOCKET", help="path of the socket; it is removed at the end")
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """0 when it was ended on request. Clients may come and go meanwhile, one at a time."""
    path = absolute(args.socket)
    args.guest, args.socket = "none", None
    settings = dataclasses.replace(settings_from(args), socket=str(path))
    check_machine()
    with StopRequests() as stops, apart_from(settings.pcap):
        from lab.supervisor import Supervisor

        def up() -> None:
            with patient():  # nobody reads it: no reason to end
                print(summary(settings), flush=True)

        Supervisor(settings, stops, complain).run(lambda: None, up)
    return 0


def summary(settings: Settings) -> str:
    """What a user needs to connect a QEMU; some lines."""
    from netbackend.plan import PREFIX_LENGTH, NetworkPlan

    plan = NetworkPlan(settings.name)
    words = [*client_options(settings.memory, str(settings.socket)), "..."]
    first = f"stack {settings.name} serves its NIC at {settings.socket}"
    return "\n".join(
        (
            wrapped(f"{first}: mode {settings.mode}, link {settings.link}", hanging="  "),
            f"  address for the guest {plan.guest.address}/{PREFIX_LENGTH}   peer {plan.peer.address}",
            "connect a QEMU of 10.1 or later, one at a time" + (", as root:" if os.geteuid() == 0 else ":"),
            *command_lines(["qemu-system-x86_64", *words], "  "),
            f"end it with Ctrl-C, or worldswitch down --name {settings.name}",
        )
    )
