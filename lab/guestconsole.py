"""Commands for a stock guest: run there by its command channel (``scripts/guest/channel``), with status and output.

The channel is the guest's second serial port, which QEMU connects to a unix socket (``channel_options``). The kernel's
messages go to the first one. Each command has a number, each answer repeats it and says how long it is; so what an
earlier command prints late, or a guest that starts anew, is never taken for an answer.
"""

from __future__ import annotations

import base64
import re
import secrets
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from lab.complaint import last_line, printable_text
from lab.guestsocket import connect
from machine.errors import GuestError

__all__ = ["Answer", "GuestConsole", "channel_options", "connected"]

BOOT_SECONDS: Final = 60.0
"""How long a guest may take to start: ten times of what it does on a machine that has nothing else to do."""

_HEADER: Final = re.compile(rb"@(?:(ready)|(\d{1,20}) (\d{1,3}) (\d{1,9}))\n")
_CHUNK_BYTES: Final = 65536
_LONGEST_ANSWER: Final = 1 << 24  # bytes
_LONGEST_HEADER: Final = 64  # bytes
_GRACE_SECONDS: Final = 5.0  # beyond what the guest itself allows a command
_PROBE_SECONDS: Final = 1.0
_KILLED: Final = 137  # as a shell has it: 128 + SIGKILL


class Answer(NamedTuple):
    """What became of a command: its exit status (137: it took too long), and what it printed.

    Some of it is printed again, on a terminal of root's: so nothing is in it that a terminal would act upon.
    """

    status: int
    output: str


def channel_options(path: Path) -> list[str]:
    """QEMU's options for the channel; they go after those of the console, which is the first serial port."""
    escaped = str(path).replace(",", ",,")
    return ["-chardev", f"socket,id=channel,path={escaped},server=on,wait=off", "-serial", "chardev:channel"]


@contextmanager
def connected(path: Path, seconds: float = BOOT_SECONDS) -> Iterator[GuestConsole]:
    """The console of the guest whose QEMU listens at ``path``, once it answers. GuestError if it doesn't in time."""
    console = GuestConsole(path)
    try:
        console.wait_ready(seconds)
        yield console
    finally:
        console.close()


class GuestConsole:
    """One connection to a channel; QEMU serves one at a time. GuestError whenever the guest doesn't play its part."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_GRACE_SECONDS)  # QEMU may have stopped taking connections
        try:
            connect(self._socket, path)
        except OSError as error:
            self._socket.close()
            raise GuestError(f"no command channel to the guest at {path}: {error.strerror or error}") from None
        self._received = bytearray()
        self._number = secrets.randbits(48)

    def close(self) -> None:
        """Gives the connection up; the guest goes on."""
        self._socket.close()

    def interrupt(self) -> None:
        """Ends another thread's wait for an answer, with GuestError; the connection is of no use after that."""
        with suppress(OSError):  # it may have ended by itself
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, command: str, seconds: float = 10.0) -> Answer:
        """Has the guest's shell run ``command``, one or several lines, and waits; at ``seconds`` the guest kills it.

        What a command leaves running in the background, with its output elsewhere, goes on after it.
        """
        number = self._send(command, seconds)
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        while True:
            answered, answer = self._next(deadline, command)
            if answered is None:
                raise GuestError(f"the guest has started anew while it ran {command!r}")
            if answered == number:
                return answer

    def check(self, command: str, seconds: float = 10.0) -> str:
        """What ``command`` prints; GuestError with its last line unless its status is 0."""
        status, output = self.run(command, seconds)
        if status:
            reason = f"took longer than {seconds:g} s" if status == _KILLED else f"status {status}"
            raise GuestError(f"in the guest: {command!r}: {reason}: {last_line(output) or 'nothing printed'}")
        return output

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> None:
        """Returns when the guest has been set up and takes commands."""
        deadline = time.monotonic() + seconds
        probes = set()
        while True:
            probes.add(self._send("true", _PROBE_SECONDS))
            try:
                answered, _ = self._next(min(deadline, time.monotonic() + _PROBE_SECONDS), "start")
            except _SilenceError:
                if time.monotonic() < deadline:
                    continue
                raise GuestError(f"the guest is not there after {seconds:g} s") from None
            if answered is None or answered in probes:
                return

    def reboot(self, seconds: float = BOOT_SECONDS) -> None:
        """Restarts the guest's kernel; returns when it is ready again."""
        self.check("(sleep 0.2; reboot) >/dev/null 2>&1 &")
        deadline = time.monotonic() + seconds
        while self._next(deadline, "reboot")[0] is not None:
            pass

    def _send(self, command: str, seconds: float) -> int:
        self._number += 1
        text = base64.b64encode(command.encode()).decode()
        self._socket.settimeout(_GRACE_SECONDS)
        try:
            self._socket.sendall(f"{self._number} {seconds:g} {text}\n".encode())
        except TimeoutError:
            raise GuestError("the guest does not read its command channel") from None
        except OSError as error:
            raise GuestError(f"the guest has ended: {error.strerror}") from None
        return self._number

    def _next(self, deadline: float, what: str) -> tuple[int | None, Answer]:
        """The number and contents of the next answer; None for the number: the guest has just started."""
        while (header := _HEADER.search(self._received)) is None:
            del self._received[:-_LONGEST_HEADER]
            self._receive(deadline, what)
        ready, number, status, length = header.groups()
        del self._received[: header.end()]
        if ready:
            return None, Answer(0, "")
        size = int(length)
        if size > _LONGEST_ANSWER:
            raise GuestError(f"the guest's answer to {what!r} is {size} bytes long; at most {_LONGEST_ANSWER} are read")
        while len(self._received) < size:
            self._receive(deadline, what)
        output = printable_text(self._received[:size].decode(errors="replace"))
        del self._received[:size]
        return int(number), Answer(int(status), output)

    def _receive(self, deadline: float, what: str) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._socket], [], [], left)[0]:
            raise _SilenceError(f"the guest does not answer: {what!r}")
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except OSError as error:
            raise GuestError(f"the guest has ended: {error.strerror}") from None
        if not data:
            raise GuestError("the guest has ended")
        self._received += data


class _SilenceError(GuestError):
    """No answer in time."""
