"""QEMU's monitor, as far as it is needed: one command, one answer, as lines of JSON (QEMU's docs/interop/qmp-spec)."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["Monitor"]

_PATIENCE_S: Final = 20.0


class Monitor:
    """A connection to a QEMU that listens at ``path``. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> None:
        """Carries out a command. Raises RuntimeError if QEMU refuses it, ConnectionError if it has gone."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._lines.readline()
            if not line:
                raise ConnectionError("QEMU has gone")
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU refuses {command}: {answer['error']}")
            if "return" in answer:  # what comes before it are events
                return
