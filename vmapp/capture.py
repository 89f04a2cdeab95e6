"""A capture of the frames at the virtual NIC, while it runs: pcapng by ``netbackend.pcapng``.

The engine's hooks write into the writer's buffer. That is emptied each second by a timer signal and at the end by
SIGTERM, so that neither the engine nor the host world's loop has to think of it. Python runs signal handlers between
two bytecodes of the main thread, so also in the middle of a write: ``_busy`` says so.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Final

from machine.control import Channel
from machine.errors import ControlError, SetupError
from netbackend.pcapng import INBOUND, OUTBOUND, PcapngWriter
from vmapp.lance.engine import LanceEngine

__all__ = ["Capture"]

_FLUSH_SECONDS: Final = 1.0


class Capture:
    """Captures what ``engine`` sends and receives. A capture that cannot go on ends; the machine runs on.

    ``control``: where that is then said.
    """

    def __init__(self, engine: LanceEngine, writer: PcapngWriter, control: Channel) -> None:
        self._engine = engine
        self._writer = writer
        self._control = control
        self._busy = False
        self._end_asked = False

    def start(self) -> None:
        """Hooks the engine and takes SIGALRM and SIGTERM over. Main thread only."""
        self._engine.on_transmit = self._sent
        self._engine.on_receive = self._received
        signal.signal(signal.SIGALRM, self._tick)
        signal.signal(signal.SIGTERM, self._terminate)
        signal.setitimer(signal.ITIMER_REAL, _FLUSH_SECONDS, _FLUSH_SECONDS)

    def _sent(self, frame: memoryview) -> None:
        self._write(frame, OUTBOUND)

    def _received(self, frame: memoryview) -> None:
        self._write(frame, INBOUND)

    def _write(self, frame: memoryview, direction: int) -> None:
        self._busy = True
        if not self._writer.closed:
            try:
                self._writer.write(frame, direction)
            except SetupError as error:
                self._give_up(error)
        self._busy = False
        if self._end_asked:
            self._end()

    def _tick(self, *_: object) -> None:
        if self._busy or self._writer.closed:
            return  # the write looks at the clock itself
        try:
            self._writer.flush_if_due()
        except SetupError as error:
            self._give_up(error)

    def _give_up(self, error: SetupError) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._engine.on_transmit = self._engine.on_receive = None
        with contextlib.suppress(ControlError):
            self._control.send({"event": "notice", "message": f"{error}; the stack runs on without it"})

    def _terminate(self, *_: object) -> None:
        self._end_asked = True
        if not self._busy:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(SetupError):
            self._writer.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
