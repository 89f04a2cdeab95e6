"""What QEMU and its guest's console say of a guest that no longer runs, although its process does.

A virtual machine that QEMU has stopped (an error of KVM's, a disk that is full, somebody's ``stop``) and a kernel that
has panicked are alive to whoever looks at processes only. ``worldswitch status`` asks QEMU itself, by QMP: lines of
JSON over a socket in the guest's folder (QEMU's docs/interop/qmp-spec.rst), and looks at the end of the console.

QEMU is less trusted than whoever asks. It answers in time or not at all, in so many bytes, and what is shown of it is a
word of letters.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lab.complaint import last_line
from lab.guestsocket import connect
from lab.qemu import MONITOR
from lab.rundir import RunDirectory
from machine.errors import GuestError

__all__ = ["guest_troubles", "qemu_state"]

_PATIENCE_SECONDS: Final = 2.0
_MOST_BYTES: Final = 1 << 16  # of QMP; an answer has some hundred, and events may come between
_TAIL_BYTES: Final = 1024  # of the console: more than its last line
_STATE: Final = re.compile(r"[a-z][a-z-]{0,30}")
_RUNNING: Final = frozenset(("running", "prelaunch", "inmigrate", "restore-vm"))  # runs, or is about to
_PANIC: Final = "Kernel panic - not syncing"  # in the last line, too, that a kernel prints (kernel/panic.c)


def guest_troubles(directory: RunDirectory) -> Iterator[str]:
    """One line for each thing that is wrong with the guest that QEMU of this stack runs; none for one that runs."""
    try:
        state = qemu_state(directory.guest / MONITOR)
        if state not in _RUNNING:
            yield f"the guest does not run: QEMU says {state!r}"
    except GuestError as error:
        yield str(error)
    panic = _panic(directory.console)
    if panic:
        yield f"the guest's kernel has given up: {panic}"


def qemu_state(path: Path, seconds: float = _PATIENCE_SECONDS) -> str:
    """QEMU's run state ("running", "paused", "internal-error", ...; qapi/run-state.json), asked at socket ``path``.

    GuestError, one line, if it does not answer within ``seconds``, or not as it should.
    """
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        try:
            connect(connection, path)
        except OSError as error:  # BlockingIOError, too: somebody else has QEMU's attention, and others queue for it
            raise GuestError(f"QEMU cannot be asked about its guest: {error.strerror}") from None
        lines = _Lines(connection, deadline)
        lines.ask("qmp_capabilities")
        answer = lines.ask("query-status")
        state = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(state, str) or not _STATE.fullmatch(state):
        raise GuestError("QEMU's answer about the state of its guest cannot be understood")
    return state


class _Lines:
    """One QMP conversation, of so many bytes and until ``deadline`` (CLOCK_MONOTONIC) at most."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = _MOST_BYTES
        self._received = b""

    def ask(self, command: str) -> Any:
        """What the command returns. Greeting and events before the answer are passed over."""
        try:
            self._connection.send(json.dumps({"execute": command}).encode() + b"\n")
        except OSError as error:
            raise GuestError(f"QEMU cannot be asked about its guest: {error.strerror}") from None
        while True:
            try:
                message = json.loads(self._line())
            except (ValueError, RecursionError):
                raise GuestError("QEMU's monitor does not speak QMP") from None
            if isinstance(message, dict) and ("return" in message or "error" in message):
                return message.get("return")

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._connection], [], [], left)[0]:
                raise GuestError(f"QEMU does not say within {_PATIENCE_SECONDS:g} s what its guest does")
            try:
                data = self._connection.recv(min(4096, self._left))
            except OSError as error:
                raise GuestError(f"QEMU cannot be asked about its guest: {error.strerror}") from None
            if not data:
                raise GuestError("QEMU does not say what its guest does")
            self._left -= len(data)
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line


def _panic(console: Path) -> str:
    """The last line of the console if a kernel has ended with it; empty if not, or if the console is a terminal."""
    try:
        with console.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _TAIL_BYTES))
            line = last_line(file.read(_TAIL_BYTES).decode(errors="replace"))
    except OSError:
        return ""
    return line if _PANIC in line else ""
