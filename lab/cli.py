"""The ``worldswitch`` program: finds the subcommand, and turns every deliberate failure into one line.

Only the module of the subcommand that was asked for is imported. Such a module has ``configure(parser)``, which
adds its arguments, and ``run(args)``, which returns the exit status.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from lab import streams
from lab.arguments import Parser
from lab.complaint import complain, lack_of
from lab.preflight import RootError, as_root
from lab.stops import exit_status_of, interruptible
from machine.errors import ConfigError, SetupError, WorldswitchError
from machine.suggestion import did_you_mean

__all__ = ["COMMANDS", "main"]

_PROGRAM: Final = "worldswitch"
_FAILED: Final = 1
_INTERRUPTED: Final = 130  # 128 + SIGINT, as a shell has it

# name -> (module, what it does, in the words of --help)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("lab.commands.up", "start a stack: guest, vmm, vmapp and their network"),
    "serve": ("lab.commands.serve", "serve the virtual NIC alone, over vfio-user, for a QEMU of your own"),
    "list": ("lab.commands.stacks", "list the stacks of this machine"),
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit status. Without one it prints help, which is no failure: 0.

    2: bad arguments; 128 + n: interrupted by signal n; 1: anything else that failed. Some commands have further ones.
    ``argv``: None for the program itself, which takes its standard streams over (``lab.streams``).
    """
    if argv is None:
        streams.take_over()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _in_one_line(lambda: _run(arguments), arguments)
    except SystemExit:  # argparse has printed its help
        unwritten = _in_one_line(streams.finish, arguments)
        if unwritten:
            return unwritten
        raise
    return status or _in_one_line(streams.finish, arguments)


def _in_one_line(work: Callable[[], int | None], arguments: Sequence[str]) -> int:
    """The status of ``work``; a failure that is none of ours is said in one line."""
    try:
        with interruptible():
            return work() or 0
    except streams.OutputError as error:
        if not error.quiet:
            complain(error)
        return error.exit_status
    except RootError as error:
        complain(f"{error}: {as_root(arguments)}")
        return error.exit_status
    except WorldswitchError as error:
        complain(error)
        return error.exit_status
    except KeyboardInterrupt as interruption:
        complain("interrupted")
        return exit_status_of(interruption)
    except (OSError, MemoryError, RuntimeError) as error:
        line = lack_of(error)
        if line is None:
            raise
        complain(line)
        return _FAILED


def _run(arguments: list[str]) -> int:
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    args = _parse(arguments, chosen)
    if args.command is None:
        return 0  # help, which has been printed
    with _told(args):
        status: int = importlib.import_module(COMMANDS[args.command][0]).run(args)
    return status


def _told(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Within it, ``--verbose`` says on standard error what is done."""
    if not args.verbose:
        return contextlib.nullcontext()
    from lab.verbose import listening

    return listening(complain)


def _parse(arguments: list[str], chosen: str | None) -> argparse.Namespace:
    """The arguments, parsed; ``chosen``: the first that is no option. ConfigError, one line, for a mistake.

    What ``exec`` is to run is its own business: of that, nothing is parsed.
    """
    if chosen is not None and chosen not in COMMANDS and (hint := did_you_mean(chosen, COMMANDS)):
        raise ConfigError(f"unknown command {chosen!r}:{hint} see `{_PROGRAM} --help`")
    ours, command = _split(arguments, chosen)
    parser, subparser = _parsers(chosen)
    subparser.check_values(ours)
    args, unknown = parser.parse_known_args(ours)
    if unknown:
        subparser.refuse_unknown(unknown)
    if args.command == "exec":
        args.words = command
    elif command or len(ours) < len(arguments):
        parser.error(f"{args.command or _PROGRAM} takes no -- COMMAND")
    elif args.command is None:
        parser.print_help()
    return args


def _split(arguments: list[str], chosen: str | None) -> tuple[list[str], list[str]]:
    """What is for us, and the command that follows."""
    if chosen == "exec":
        from lab.commands.execute import split_command

        start = arguments.index(chosen) + 1
        ours, command = split_command(arguments[start:])
        return arguments[:start] + ours, command
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def _parsers(chosen: str | None) -> tuple[Parser, Parser]:
    """The program's parser, and the chosen command's, the only one that is complete; if none is, twice the first."""
    parser = found = Parser(
        prog=_PROGRAM,
        description="The hosted I/O virtualization architecture of VMware Workstation, as Linux processes.",
        epilog="Each command has its own --help.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of program, Python and kernel")
    _add_verbose(parser, default=False)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if name == chosen:
            found = subparser
            _add_verbose(subparser, default=argparse.SUPPRESS)  # or it would undo a -v before the command
            _module(name, module).configure(subparser)
    return parser, found


def _add_verbose(parser: Parser, default: object) -> None:
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="say on standard error what is made and started"
    )


class _Version(argparse.Action):
    """Prints the versions that a report of a defect should name, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        try:
            version = metadata.version(_PROGRAM)
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        here, kernel = sys.version.split()[0], os.uname()
        print(f"{_PROGRAM} {version}, Python {here}, {kernel.sysname} {kernel.release} {kernel.machine}")
        parser.exit()


def _module(name: str, module: str) -> argparse.Namespace:
    try:
        found: argparse.Namespace = importlib.import_module(module)  # type: ignore[assignment]
    except ModuleNotFoundError as error:
        if error.name == module:
            raise SetupError(f"this installation has no {name}") from None
        raise SetupError(f"Python has no module {error.name!r}: run scripts/setup") from None
    return found
