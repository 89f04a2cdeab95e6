"""Command lines that nobody meant, run in this process or in one of their own, and what must be true of each.

Nothing that is run here ever starts a stack: without root every command that would refuses, and with root there is no
/dev/net/tun, which is looked for before anything is made. So every argument is checked, and nothing else happens.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import strategies as st

import machine.config
from lab import cli, preflight, rundir
from lab.commands import down

__all__ = ["Case", "Outcome", "cases", "command_lines", "inside", "outside", "populate", "problems"]

STATUSES: Final = frozenset((0, 1, 2, 3, 126, 127, 130))
"""2: bad arguments; 3: no such stack runs (`status`); 126 and 127: `exec`, as shells have them; 130: interrupted."""

_ROOT: Final = Path(__file__).parents[2]
_LONGEST_S: Final = 60.0
_SLOWEST_S: Final = 45.0  # far more than any of them takes on a busy machine: this is about those that hang

# Words that have been somebody's mistake, or a script's with an empty variable, or an attacker's.
_VALUES: Final = (
    *("", "-", "--", "0", "-1", "1", "2.0", "nan", "inf", "1e99", "9" * 5000, "0x10", "1_0", "\u0661", "\n", "\u00e9"),
    *("fast", "paper", "optimised", "none", "100mbit", "qemu", "builtin", "guest", "peer", "ls", "handoff", "idle"),
    *("mode=2.0", "combining=off", "tick_ms=0", "link=down", "=", "a=b", "name=x", "cpus=0", "tick_ms=" + "9" * 5000),
    *("bug-", "../x", "A", "a" * 40, "default", "0,1", "4096", "0," * 2000, "/", "/dev/null", "no/such/file"),
    *("file", "folder", "page.html", "%s%n", "\x1b[2J", "x" * 100_000),
)
_NASTY: Final = ("", "--", "-1", "nan", "9" * 5000, "bug-", "\n", "x" * 100_000)  # of these, those that hit most
_FILES: Final = ("fifo", "/dev/zero", "/", "file", "no/such/file", "large", "bad.toml", "good.toml", "", "deep.toml")
_VARIABLES: Final[Mapping[str, Sequence[str]]] = {
    "COLUMNS": ("", "0", "-1", "1", "80", "200", "x", "9" * 5000),
    "TERM": ("", "dumb", "nonsense"),
    "HOME": ("", "/no/such/home"),
    "TMPDIR": ("/no/such/folder",),
    "NO_COLOR": ("1",),
    "WORLDSWITCH_GUEST": ("", "relative", "/dev/null"),
    "SUDO_USER": ("", "nobody-by-that-name"),
}
_STARTING: Final[Mapping[str, Sequence[str]]] = _VARIABLES | {  # these count when the interpreter starts
    "LANG": ("C", "POSIX", "de_DE.ISO-8859-1", "nonsense"),
    "LC_ALL": ("C",),
    "PYTHONIOENCODING": ("ascii", "latin-1", "utf-8:strict"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONOPTIMIZE": ("2",),
    "PYTHONUNBUFFERED": ("1",),
    "PYTHONHASHSEED": ("0",),
    "PYTHONSAFEPATH": ("1",),
}
# As a shell has them. The smallest are those with which the interpreter itself still starts.
_LIMITS: Final = ("-n 16", "-n 20", "-n 32", "-u 1", "-f 0", "-f 8", "-c 0", "-s 256", "-t 1", "-v 120000", "-v 60000")
_REDIRECTIONS: Final = (
    *("<&-", ">&-", ">/dev/full", "2>&-", "2>/dev/full", "<&- >&- 2>&-", ">/dev/null", "3</dev/null"),
)
_FOLDERS: Final = ("here", "gone")


@dataclass(frozen=True, slots=True)
class Case:
    """One call: words, what differs in the environment, and of a process of its own: limits, descriptors, folder."""

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    redirection: str = ""
    folder: str = "here"
    root: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. ``left``: names of what is there and was not before."""

    status: int
    errors: str
    seconds: float
    left: tuple[str, ...]


@cache
def command_lines(*only: str) -> st.SearchStrategy[tuple[str, ...]]:
    """Words after ``worldswitch``: a command, mostly one that there is, with options of its own and with others'.

    ``only``: with these commands.
    """
    known = st.sampled_from(only or tuple(cli.COMMANDS)).flatmap(_words_of)
    if only:
        return known
    mangled = st.tuples(st.sampled_from((*cli.COMMANDS, "")), _text()).map(lambda pair: ("".join(pair),))
    return st.one_of(known, known, known, known, st.lists(_value(), max_size=4).map(tuple), mangled)


@cache
def _words_of(name: str) -> st.SearchStrategy[tuple[str, ...]]:
    _, parser = cli._parsers(name)
    flags = [option for action in parser._actions for option in action.option_strings if action.nargs == 0]
    valued = [option for action in parser._actions for option in action.option_strings if action.nargs != 0]
    parts = [st.sampled_from(flags).map(lambda word: (word,)), _value().map(lambda word: (word,))]
    for option in valued:
        value = st.one_of(st.sampled_from(_FILES), _value()) if option == "--config" else _value()
        parts += [value.map(lambda word, option=option: (option, word))]
        parts += [value.map(lambda word, option=option: (f"{option}={word}",))]
    parts.append(_text().map(lambda text: (f"--{text}",)))
    return st.lists(st.one_of(parts), max_size=5).map(lambda found: (name, *(word for part in found for word in part)))


def _value() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(_NASTY), st.sampled_from(_VALUES), _text())


def _text() -> st.SearchStrategy[str]:
    """Any bytes that a shell can pass: not always UTF-8, never a zero."""
    return st.binary(max_size=12).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))


def _environment(variables: Mapping[str, Sequence[str]]) -> st.SearchStrategy[dict[str, str]]:
    pairs = [(name, value) for name, values in variables.items() for value in values]
    return st.lists(st.sampled_from(pairs), max_size=3).map(dict)


def cases(*only: str, process: bool) -> st.SearchStrategy[Case]:
    """Calls within this process, or ``process``: with what only a process of its own can have."""
    if not process:
        return st.builds(Case, command_lines(*only), _environment(_VARIABLES), root=st.booleans())
    return st.builds(
        Case,
        command_lines(),
        _environment(_STARTING),
        st.lists(st.sampled_from(_LIMITS), max_size=2, unique_by=lambda limit: limit[:2]).map(tuple),
        st.one_of(st.just(""), st.sampled_from(_REDIRECTIONS)),
        st.sampled_from(_FOLDERS),
    )


def populate(folder: Path) -> None:
    """What the words of ``_VALUES`` and ``_FILES`` name."""
    (folder / "folder").mkdir()
    (folder / "file").write_text("no settings\n")
    (folder / "large").write_bytes(b"#" * (1 << 20))
    (folder / "bad.toml").write_bytes(b"name = \xff")
    (folder / "good.toml").write_text("ram_mib = 8\n")
    (folder / "deep.toml").write_text("mode = " + "[" * 20_000)
    os.mkfifo(folder / "fifo")


def problems(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with it; nothing for a program that behaves."""
    found = []
    lines = outcome.errors.splitlines()
    killed = "-t 1" in case.limits and outcome.status in (-signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGXCPU, 137)
    if outcome.status not in STATUSES and not killed:
        found.append(f"status {outcome.status}")
    if "Traceback" in outcome.errors or any(line.startswith("Exception ignored") for line in lines):
        found.append("a traceback")
    if outcome.status in (1, 2, 3) and "2>" not in case.redirection and not (len(lines) == 1 and _is_ours(lines[0])):
        found.append(f"{len(lines)} lines of error")
    if outcome.seconds > _SLOWEST_S:
        found.append(f"{outcome.seconds:.0f} s")
    if outcome.left:
        found.append(f"left behind: {', '.join(outcome.left)}")
    return found


def _is_ours(line: str) -> bool:
    return line.startswith("worldswitch: ") and line.isprintable()


# -- within this process --------------------------------------------------------------------------------------


def inside(case: Case, folder: Path) -> Outcome:
    """Calls the program's ``main`` in ``folder``, as a user, or as root on a machine without TAPs and stacks."""
    runs = folder.parent / "run"
    before = _footprint(folder, runs)
    began = time.monotonic()
    out, errors = io.StringIO(), io.StringIO()
    with _elsewhere(case, folder, runs), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status = cli.main(case.words)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except Exception:  # noqa: BLE001  (whatever it is, it would have been a traceback)
            traceback.print_exc()
            status = 1
    seconds = time.monotonic() - began
    return Outcome(status, errors.getvalue(), seconds, tuple(sorted(_footprint(folder, runs) - before)))


@contextlib.contextmanager
def _elsewhere(case: Case, folder: Path, runs: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in case.variables.items():
            patch.setenv(name, value)
        patch.setattr(os, "geteuid", lambda: 0 if case.root else 1000)
        patch.setattr(preflight, "_TUN", folder / "no-tun")
        patch.setattr(machine.config, "_FILE_SECONDS", 0.05)
        patch.setattr(rundir.RunDirectory.__init__, "__defaults__", (runs,))
        patch.setattr(rundir.names, "__defaults__", (runs,))
        patch.setattr(down, "BASE", runs)
        yield


def _footprint(*folders: Path) -> set[str]:
    """Files, open descriptors by what they lead to, threads."""
    files = {str(path) for folder in folders for path in folder.rglob("*")}
    fds = {f"descriptor of {target}" for fd in os.listdir("/proc/self/fd") if (target := _target(fd)) is not None}
    return files | fds | {f"thread {thread.name}" for thread in threading.enumerate()}


def _target(fd: str) -> str | None:
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    return None if found.endswith("/fd") else found


# -- in a process of its own ----------------------------------------------------------------------------------

_SCRIPT: Final = """\
report=$1 limits=$2 folder=$3 redirection=$4
shift 4
if [ "$folder" = gone ]; then mkdir gone; cd gone; rmdir ../gone; fi
(
    eval "$limits"
    eval 'exec "$@"' "$redirection"
)
status=$?
find /run/worldswitch /run/netns -mindepth 1 >"$report" 2>/dev/null
exit $status
"""

_PRIVATE: Final = """\
for folder in /run /dev/shm /dev/net; do mount -t tmpfs none $folder || exit 99; done
exec "$@"
"""


def outside(case: Case, folder: Path, user: int | None) -> Outcome:
    """Runs the program in a process of its own, in ``folder``, as ``user`` (None: as whoever this is).

    As root it has a mount and a network namespace of its own, with nothing in /run, /dev/shm and /dev/net.
    """
    report = folder.parent / "report"
    report.write_bytes(b"")
    report.chmod(0o666)
    before = _files(folder)
    limits = "; ".join(f"ulimit {limit}" for limit in case.limits)
    words = ["bash", "-c", _SCRIPT, "bash", str(report), limits, case.folder, case.redirection]
    words += [sys.executable, "-m", "lab", *case.words]
    if user is None and os.geteuid() == 0:
        words = ["unshare", "--mount", "--net", "sh", "-c", _PRIVATE, "sh", *words]
    kind: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    began = time.monotonic()
    done = subprocess.run(
        [os.fsencode(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", **case.variables},
        timeout=_LONGEST_S,
        check=False,
        **kind,
    )
    seconds = time.monotonic() - began
    left = {*(_files(folder) - before), *report.read_text(errors="replace").splitlines()}
    return Outcome(done.returncode, done.stderr, seconds, tuple(sorted(left)))


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}
