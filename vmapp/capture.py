"""A capture of the frames at the virtual NIC, while it runs: pcapng by ``netbackend.pcapng``.

The engine's hooks write into the writer's buffer. That is emptied each second by a timer signal and at the end by
SIGTERM, so that neither the engine nor the host world's loop has to think of it. Either signal may come in the middle
of a write, or of each other's work; what then happens is the writer's rule (``PcapngWriter``), and none of it is
repeated here but one thing: a request to end that finds the writer at work is carried out when that work is done.
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
        self._end_asked = False
        self._told = False

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
        writer = self._writer
        if not writer.closed:
            try:
                if not writer.write(frame, direction) and not self._told:
                    self._tell_of_loss()
            except SetupError as error:
                self._give_up(error)
        if self._end_asked:
            self._end()

    def _tick(self, *_: object) -> None:
        if not self._writer.closed:
            try:
                self._writer.flush_if_due()
            except SetupError as error:
                self._give_up(error)
        if self._end_asked:
            self._end()

    def _tell_of_loss(self) -> None:
        """Once: from then on the capture itself says what it lacks."""
        self._told = True
        self._notice("frames are missing from the capture: its reader is too slow; it says where, and how many")

    def _give_up(self, error: SetupError) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._engine.on_transmit = self._engine.on_receive = None
        self._notice(f"{error}; the stack runs on without it")

    def _notice(self, message: str) -> None:
        with contextlib.suppress(ControlError):
            self._control.send({"event": "notice", "message": message})

    def _terminate(self, *_: object) -> None:
        self._end_asked = True
        self._end()

    def _end(self) -> None:
        try:
            if not self._writer.close():
                return  # in the middle of a write, whose caller looks at _end_asked next
        except SetupError:  # the file has ended before the machine, by half a second
            pass
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
