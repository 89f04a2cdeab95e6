"""A client of QEMU's qtest socket: a machine without a processor, whose ports and clock the test drives.

The protocol is lines of text: a command, and an answer that begins with OK or FAIL. Lines that begin with IRQ come
whenever an intercepted interrupt line changes, before the answer to the command that changed it. Source: QEMU's
system/qtest.c. Commands may be sent ahead of the answers, so a batch costs one write.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lab.guestimage import find_image
from machine.errors import SetupError

__all__ = ["QTest", "find_qemu"]

_PROGRAM: Final = "qemu-system-x86_64"
_PATIENCE_S: Final = 20.0
_GLANCE_S: Final = 0.1
_CHUNK: Final = 1 << 16


def find_qemu() -> tuple[str, ...]:
    """The words that start QEMU: the stock guest's, else the system's. Raises SetupError if there is neither."""
    try:
        return find_image().qemu
    except SetupError:
        system = shutil.which(_PROGRAM)
        if system is None:
            raise
        return (system,)


class QTest:
    """A QEMU whose guest is this object. ``levels``: interrupt line -> 0 or 1, of those that have ever changed.

    ``folder`` takes the socket; ``arguments`` say which machine it is. Use it as a context manager.
    """

    def __init__(self, folder: Path, arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        self.levels: dict[int, int] = {}
        self._rest = b""
        self._log = folder / "qemu.log"
        path = folder / "qtest"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            listener.settimeout(_GLANCE_S)
            command = [*find_qemu(), *arguments, "-qtest", f"unix:{path}", "-qtest-log", "none"]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds
                )
            self._socket = self._accepted(listener)
        self._socket.settimeout(_PATIENCE_S)

    def _accepted(self, listener: socket.socket) -> socket.socket:
        deadline = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                return listener.accept()[0]
            except TimeoutError:
                pass
        self._end()
        raise SetupError(f"QEMU does not speak qtest: {self._complaint()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._end()

    def batch(self, commands: Sequence[str]) -> list[int]:
        """Carries out the commands in order; for each the number that it answers with, or 0.

        Raises RuntimeError if QEMU refuses one, ConnectionError if it has gone.
        """
        if not commands:
            return []
        self._socket.sendall(("\n".join(commands) + "\n").encode())
        answers: list[int] = []
        while len(answers) < len(commands):
            *lines, self._rest = (self._rest + self._receive()).split(b"\n")
            for line in lines:
                if line.startswith(b"IRQ"):
                    _, change, number = line.split()
                    self.levels[int(number)] = int(change == b"raise")
                elif line.startswith(b"OK"):
                    answers.append(int(line[3:], 0) if len(line) > 3 else 0)
                else:
                    raise RuntimeError(f"QEMU refuses {commands[len(answers)]!r}: {line.decode(errors='replace')}")
        return answers

    def one(self, command: str) -> int:
        """As ``batch``, of one command."""
        return self.batch((command,))[0]

    def _receive(self) -> bytes:
        received = self._socket.recv(_CHUNK)
        if not received:
            raise ConnectionError(f"QEMU has gone: {self._complaint()}")
        return received

    def _complaint(self) -> str:
        return self._log.read_text(errors="replace").strip()[-500:] or "it said nothing"

    def _end(self) -> None:
        """QEMU ends: it is asked to, and then made to."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
