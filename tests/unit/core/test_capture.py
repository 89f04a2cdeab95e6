"""vmapp's capture: what its timer and SIGTERM do, whenever they come, and what the supervisor is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from machine.control import Channel
from netbackend.pcapng import PcapngWriter
from tests.kit import captures
from vmapp.capture import Capture

FRAME = memoryview(bytes(1000))

PROGRAM = """
    import os, signal, sys
    from types import SimpleNamespace
    from machine.control import Channel
    from netbackend.pcapng import PcapngWriter
    from vmapp import capture

    capture._FLUSH_SECONDS = 0.0005  # a signal in the middle of everything
    engine = SimpleNamespace(on_transmit=None, on_receive=None)
    writer = PcapngWriter(sys.argv[1], ("lance",))
    capture.Capture(engine, writer, Channel.pair()[0]).start()
    genuine = writer.flush_if_due
    def due():
        writer._flushed_at = 0
        genuine()
    writer.flush_if_due = due
    for number in range(20_000):
        engine.on_receive(memoryview(number.to_bytes(4, "big") * 200))
    print("written", flush=True)
    while True:
        engine.on_transmit(memoryview(bytes(60)))
"""


def test_signals_at_any_moment_leave_a_whole_capture(tmp_path: Path) -> None:
    """2000 timer signals a second while frames are captured, then SIGTERM: 20000 frames in order, and no half block."""
    script = textwrap.dedent(PROGRAM)
    path = tmp_path / "c"
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    found = [body[20:24] for kind, body in captures.blocks(path.read_bytes()) if kind == captures.EPB]
    assert [int.from_bytes(head, "big") for head in found[:20_000]] == list(range(20_000))


@pytest.fixture
def kept_signals():
    """Handlers and the timer as they were."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM)}
    timer = signal.getitimer(signal.ITIMER_REAL)
    yield
    signal.setitimer(signal.ITIMER_REAL, *timer)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def notices(end: Channel) -> list[str]:
    """What the supervisor has been told."""
    found = []
    while captures.select_readable(end.fileno()):
        message = end.receive(1.0)
        assert message is not None
        found.append(message["message"])
    return found


def test_a_slow_reader_is_one_notice(tmp_path: Path, kept_signals: None) -> None:
    """The engine goes on, and the user hears once that frames are missing."""
    path, reader = captures.fifo(tmp_path)
    engine = SimpleNamespace(on_transmit=None, on_receive=None)
    here, there = Channel.pair()
    writer = PcapngWriter(path, ("lance",))
    Capture(engine, writer, here).start()  # type: ignore[arg-type]
    for _ in range(2500):
        engine.on_transmit(FRAME)
    assert writer.lost > 100
    (line,) = notices(there)
    assert "its reader is too slow" in line
    os.close(reader)
    for _ in range(2500):  # and when there is no reader at all, the capture ends, once
        if engine.on_transmit is not None:
            engine.on_transmit(FRAME)
    assert engine.on_transmit is engine.on_receive is None
    (line,) = notices(there)
    assert line.endswith("Broken pipe; the stack runs on without it")
    here.close()
    there.close()
