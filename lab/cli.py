"""The ``worldswitch`` program: finds the subcommand, and turns every deliberate failure into one line.

Only the module of the subcommand that was asked for is imported. Such a module has ``configure(parser)``, which
adds its arguments, and ``run(args)``, which returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from lab import streams
from lab.complaint import complain
from machine.errors import ConfigError, SetupError, WorldswitchError

__all__ = ["COMMANDS", "main"]

_PROGRAM: Final = "worldswitch"

# name -> (module, what it does, in the words of --help)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("lab.commands.up", "start a stack: guest, vmm, vmapp and their network"),
    "serve": ("lab.commands.serve", "serve the virtual NIC alone, over vfio-user, for a QEMU of your own"),
    "exec": ("lab.commands.execute", "run a program on one of the stack's machines"),
    "status": ("lab.commands.status", "show processes, settings and counters"),
    "set": ("lab.commands.change", "change settings while a stack runs, or pull its cable"),
    "top": ("lab.commands.top", "watch a stack live: rates, time shares, hottest ports"),
    "profile": ("lab.commands.profile", "draw a flame graph of the three processes"),
    "registers": ("lab.commands.registers", "show the Lance's registers, decoded"),
    "trace": ("lab.commands.trace", "record a timeline of traps, switches, interrupts and host I/O for Perfetto"),
    "down": ("lab.commands.down", "end a stack and remove everything it made"),
    "demo": ("lab.demo", "a stack, traffic through it, and where the time went"),
    "bench": ("lab.bench", "measure: see `worldswitch bench --help`"),
    "report": ("lab.commands.report", "one page: the paper's figures beside those that were measured here"),
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line each."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit status (2: bad arguments, 130: interrupted).

    ``argv``: None for the program itself, which takes its standard streams over (``lab.streams``).
    """
    if argv is None:
        streams.take_over()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _in_one_line(lambda: _run(arguments))
    except SystemExit:  # argparse has printed its help
        unwritten = _in_one_line(streams.finish)
        if unwritten:
            return unwritten
        raise
    return status or _in_one_line(streams.finish)


def _in_one_line(work: Callable[[], int | None]) -> int:
    """The status of ``work``; a deliberate failure is said in one line."""
    try:
        return work() or 0
    except streams.OutputError as error:
        if not error.quiet:
            complain(error)
        return error.exit_status
    except WorldswitchError as error:
        complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def _run(arguments: list[str]) -> int:
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    args = _parse(arguments, chosen)
    status: int = importlib.import_module(COMMANDS[args.command][0]).run(args)
    return status


def _parse(arguments: list[str], chosen: str | None) -> argparse.Namespace:
    """The arguments, parsed. What follows "--" is the command of ``exec``, and nobody else's business."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _Parser(
        prog=_PROGRAM,
        description="The hosted I/O virtualization architecture of VMware Workstation, as Linux processes.",
        epilog="Each command has its own --help.",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == chosen:
            _module(name, module).configure(subparser)
    args = parser.parse_args(arguments[:split])
    if args.command == "exec":
        args.words += arguments[split + 1 :]
    elif split < len(arguments):
        parser.error(f"{args.command} takes no -- COMMAND")
    return args


def _module(name: str, module: str) -> argparse.Namespace:
    try:
        found: argparse.Namespace = importlib.import_module(module)  # type: ignore[assignment]
    except ModuleNotFoundError as error:
        if error.name == module:
            raise SetupError(f"this installation has no {name}") from None
        raise SetupError(f"Python has no module {error.name!r}: run scripts/setup") from None
    return found
