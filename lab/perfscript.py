"""What ``perf script -F pid,ip,sym`` prints, as stacks.

A sample is a line with the process id, one line for each frame, the innermost first, and an empty line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from lab.flamegraph import Frame, Stacks

__all__ = ["parse_perf_script"]

_FIRST_KERNEL_ADDRESS: Final = 1 << 63
_TRAMPOLINE: Final = "py::"  # "py::function:/path/file.py", as the interpreter names its perf trampolines
_INTERPRETER: Final = ("_Py", "Py", "py_trampoline")
_NO_NAME: Final = "[unknown]"

_RawFrame = tuple[int, str]


def parse_perf_script(text: str, roles: Mapping[int, str], period: float, *, python: bool) -> Stacks:
    """Role, then the frames -> seconds; each sample stands for ``period`` seconds.

    ``python``: the interpreter has perf trampolines and frame pointers. Otherwise no user frame but the innermost can
    be trusted, as nothing says where the others are.
    """
    counts: Counter[tuple[Frame, ...]] = Counter()
    for pid, frames in _samples(text.splitlines()):
        if pid in roles:
            user = _python_frames(frames) if python else _innermost(frames)
            kernel = [Frame(name, "kernel") for ip, name in frames if ip >= _FIRST_KERNEL_ADDRESS and name != _NO_NAME]
            counts[(Frame(roles[pid], "group"), *user, *reversed(kernel))] += 1
    return {stack: count * period for stack, count in counts.items()}


def _samples(lines: Iterable[str]) -> Iterator[tuple[int, list[_RawFrame]]]:
    pid, frames = -1, list[_RawFrame]()
    for line in lines:
        words = line.split(None, 1)
        if not words:
            if pid >= 0:
                yield pid, frames
            pid, frames = -1, []
        elif pid < 0:
            pid = int(words[0]) if words[0].isdecimal() else -1
        elif len(words) == 2:
            frames.append((_address(words[0]), words[1].strip()))
    if pid >= 0:
        yield pid, frames


def _address(word: str) -> int:
    try:
        return int(word, 16)
    except ValueError:
        return 0


def _innermost(frames: Iterable[_RawFrame]) -> list[Frame]:
    """The user function that ran, or that entered the kernel."""
    name = next((name for ip, name in frames if ip < _FIRST_KERNEL_ADDRESS), _NO_NAME)
    return [Frame("user code" if name == _NO_NAME else name, "native")]


def _python_frames(frames: Iterable[_RawFrame]) -> list[Frame]:
    """Python functions and the C functions that they call, the outermost first; not the interpreter's own."""
    user = [name for ip, name in frames if ip < _FIRST_KERNEL_ADDRESS]
    return [_named(name) for name in reversed(user) if name != _NO_NAME and not name.startswith(_INTERPRETER)]


def _named(name: str) -> Frame:
    if not name.startswith(_TRAMPOLINE):
        return Frame(name, "native")
    function, _, path = name.removeprefix(_TRAMPOLINE).partition(":")
    return Frame(f"{function} ({path.rpartition('/')[2]})", "python")
