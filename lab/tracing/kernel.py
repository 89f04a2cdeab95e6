"""What the kernel's scheduler did meanwhile: sched_switch events of the stack's CPUs, from tracefs.

In an instance of its own (Documentation/trace/ftrace.rst), so nobody else's tracing is disturbed, with the clock of
everything else here (mono). Where tracefs is not mounted, it is opened without mounting it anywhere: fsmount() gives
a descriptor, and what that holds is gone with it.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

__all__ = ["KernelTrace", "Switch", "Turn", "kernel_trace", "parse_switches", "turns"]

_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_EVENT: Final = "events/sched/sched_switch"
_BUFFER_KB: Final = 8192  # each CPU: some 80,000 switches
_CHUNK: Final = 1 << 20

_FSOPEN: Final = 430  # system calls of that number on every architecture since Linux 5.2
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CLOEXEC: Final = 1  # of fsopen() and fsmount() alike
_CMD_CREATE: Final = 6

_LINE: Final = re.compile(
    r"\[(?P<cpu>\d+)\].* (?P<seconds>\d+)\.(?P<micros>\d{6}): sched_switch: prev_comm=.* prev_pid=\d+ .*==> "
    r"next_comm=(?P<comm>.*) next_pid=(?P<pid>\d+) next_prio="
)


class Switch(NamedTuple):
    """At ``at`` (CLOCK_MONOTONIC, ns; the kernel prints whole microseconds) the CPU went to a thread; pid 0: idle."""

    at: int
    cpu: int
    pid: int
    name: str


class Turn(NamedTuple):
    """A thread's time on a CPU, ns."""

    begin: int
    end: int
    cpu: int
    pid: int
    name: str


@dataclass(slots=True)
class KernelTrace:
    """``switches``: there when the block has ended. ``missing``: why there are none; None if there are."""

    switches: list[Switch] = field(default_factory=list)
    missing: str | None = None


@contextmanager
def kernel_trace(cpus: Sequence[int]) -> Iterator[KernelTrace]:
    """Records who runs on ``cpus`` during the block. Without tracefs the block runs all the same."""
    trace = KernelTrace()
    try:
        root = _open_tracefs()
    except OSError as error:
        trace.missing = f"no tracefs ({error.strerror})"
        yield trace
        return
    name = f"instances/worldswitch-{os.getpid()}"
    try:
        os.mkdir(name, dir_fd=root)
    except OSError as error:
        os.close(root)
        trace.missing = f"tracefs gives no instance ({error.strerror})"
        yield trace
        return
    try:
        instance = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            yield from _recorded(instance, trace, cpus)
        finally:
            os.close(instance)
    finally:
        os.rmdir(name, dir_fd=root)
        os.close(root)


def _recorded(instance: int, trace: KernelTrace, cpus: Sequence[int]) -> Iterator[KernelTrace]:
    try:
        _start(instance, cpus)
    except OSError as error:
        trace.missing = f"the kernel has no sched_switch events for us ({error.strerror})"
        yield trace
        return
    try:
        yield trace
    finally:
        with suppress(OSError):
            _write(instance, "tracing_on", "0")
    trace.switches = list(parse_switches(_read(instance, "trace").splitlines()))


def _start(instance: int, cpus: Sequence[int]) -> None:
    _write(instance, "trace_clock", "mono")
    _write(instance, "buffer_size_kb", str(_BUFFER_KB))
    _write(instance, "tracing_cpumask", _cpu_mask(cpus))
    _write(instance, f"{_EVENT}/enable", "1")
    _write(instance, "tracing_on", "1")


def _cpu_mask(cpus: Sequence[int]) -> str:
    """As the kernel reads one: 32-bit words in hexadecimal, the highest first."""
    mask = sum(1 << cpu for cpu in set(cpus))
    words = max(1, (mask.bit_length() + 31) // 32)
    return ",".join(f"{mask >> 32 * word & 0xFFFFFFFF:08x}" for word in reversed(range(words)))


def _open_tracefs() -> int:
    """A descriptor of tracefs's root."""
    for place in _PLACES:
        if os.path.isdir(f"{place}/instances"):
            return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    context = _call(_FSOPEN, b"tracefs", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        mount = _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def _call(number: int, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    answer: int = libc.syscall(number, *arguments)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def _write(directory: int, name: str, text: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(directory: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        chunks = []
        while chunk := os.read(fd, _CHUNK):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode(errors="replace")


def parse_switches(lines: Iterable[str]) -> Iterator[Switch]:
    """The sched_switch events in the text of a tracefs ``trace`` file; other lines are passed over."""
    for line in lines:
        found = _LINE.search(line)
        if found:
            at = (int(found["seconds"]) * 1_000_000 + int(found["micros"])) * 1000
            yield Switch(at, int(found["cpu"]), int(found["pid"]), found["comm"])


def turns(switches: Iterable[Switch], begin: int, end: int) -> Iterator[Turn]:
    """Who ran when between ``begin`` and ``end``; the first turn of each CPU is known only from its first switch."""
    running: dict[int, Switch] = {}
    for switch in sorted(switches):
        last = running.get(switch.cpu)
        if last is not None:
            yield from _clipped(last, switch.at, begin, end)
        running[switch.cpu] = switch
    for last in running.values():
        yield from _clipped(last, end, begin, end)


def _clipped(switch: Switch, until: int, begin: int, end: int) -> Iterator[Turn]:
    first, last = max(switch.at, begin), min(until, end)
    if switch.pid and first < last:
        yield Turn(first, last, switch.cpu, switch.pid, switch.name)
