"""A capture whose reader is slow, stops or leaves, a disk that is full, and calls in the middle of other calls."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.errors import SetupError
from netbackend.capturefile import CaptureFile, open_capture
from netbackend.pcapng import INBOUND, OUTBOUND, PcapngWriter
from tests.kit.captures import EPB, blocks, drops, fifo, read_all

FRAME = bytes(range(256)) * 5


def test_a_reader_that_pauses_never_blocks_the_writer(tmp_path: Path) -> None:
    """Far more frames than pipe and buffer hold: no call waits, what is lost is counted, and the file stays whole."""
    path, reader = fifo(tmp_path)
    writer = PcapngWriter(path, ("lance",))
    began = time.monotonic()
    kept = sum(writer.write(FRAME, INBOUND) for _ in range(3000))
    assert time.monotonic() - began < 30, "it waited for the reader"
    assert 0 < kept < 3000
    assert writer.lost == 3000 - kept
    data = read_all(reader)
    assert writer.write(FRAME, OUTBOUND)  # it goes on as soon as the reader does
    writer.flush()
    data += read_all(reader)
    writer.close()
    data += read_all(reader)
    assert drops(data) == (kept + 1, 3000 - kept, 3000 - kept)
    os.close(reader)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_a_reader_that_reads_in_fits_and_starts_gets_whole_blocks(seed: int) -> None:
    """Whatever pieces it takes, and whenever: all that is written and not lost arrives, in order."""
    chance = random.Random(seed)
    reader, end = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(end, False)
    writer = PcapngWriter("pipe", ("lance",), end)
    data, kept = b"", []
    for number in range(400):
        frame = number.to_bytes(4, "big") + bytes(chance.randrange(1500))
        if writer.write(frame, INBOUND):
            kept.append(frame)
        if chance.random() < 0.02:
            data += os.read(reader, chance.randrange(1, 1 << 17)) if chance.random() < 0.9 else b""
            writer.flush()
    for _ in range(8):  # a pipe holds a quarter of the buffer
        data += read_all(reader)
        writer.flush()
    writer.close()
    data += read_all(reader)
    found = [body[20:][: struct.unpack_from("=I", body, 12)[0]] for kind, body in blocks(data) if kind == EPB]
    assert found == kept
    os.close(reader)


def test_a_reader_that_leaves_ends_the_capture(tmp_path: Path) -> None:
    """One SetupError, after which the writer is closed."""
    path, reader = fifo(tmp_path)
    writer = PcapngWriter(path)
    os.close(reader)
    writer.write(FRAME, INBOUND)
    with pytest.raises(SetupError, match="Broken pipe"):
        writer.flush()
    assert writer.closed


def test_a_reader_that_never_reads_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Closing waits for half a second, not for the reader."""
    path, reader = fifo(tmp_path)
    writer = PcapngWriter(path)
    while writer.write(FRAME, INBOUND):
        pass
    assert writer.close()
    assert writer.closed
    os.close(reader)


def test_a_fifo_without_a_reader_is_one_line(tmp_path: Path) -> None:
    """Opening it would wait for one."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SetupError, match="nobody reads this FIFO; start its reader first"):
        open_capture(str(tmp_path / "fifo"))


def test_a_disk_that_fills_up_leaves_whole_blocks(tmp_path: Path) -> None:
    """The file ends with the last block that fits, and one line says why (RLIMIT_FSIZE instead of a full disk)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = PcapngWriter(str(tmp_path / "c"))
    for _ in range(100):
        writer.write(FRAME, INBOUND)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(SetupError, match="ended: File too large"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert writer.closed
    data = (tmp_path / "c").read_bytes()
    assert 50_000 - 1400 < len(data) <= 50_000
    assert drops(data)[0] > 30


@pytest.mark.parametrize("call", ["flush", "flush_if_due", "close"])
def test_a_call_in_the_middle_of_another_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A signal handler within write(2) that flushes or closes: each block is once in the file, whole."""
    writer = PcapngWriter(str(tmp_path / "c"))
    genuine = CaptureFile.write

    def interrupted(file: CaptureFile, data: memoryview) -> int:
        done = genuine(file, data[: len(data) // 2 or 1])
        monkeypatch.setattr(CaptureFile, "write", genuine)
        writer._flushed_at = 0  # a second has passed
        assert not getattr(writer, call)()
        assert not writer.closed
        return done

    writer.write(FRAME, INBOUND)
    monkeypatch.setattr(CaptureFile, "write", interrupted)
    writer.flush()
    writer.write(FRAME, OUTBOUND)
    assert writer.close()
    assert drops((tmp_path / "c").read_bytes()) == (2, 0, 0)


def test_a_shared_pipe_keeps_its_flags(tmp_path: Path) -> None:
    """Standard output is opened anew: whoever shares it, the shell for one, does not find it non-blocking."""
    script = (
        "import os, fcntl; from netbackend.pcapng import PcapngWriter, INBOUND; from netbackend.capturefile import *\n"
        "w = PcapngWriter('-', ('lance',)); w.write(bytes(60), INBOUND); w.close()\n"
        "assert not fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert drops(done.stdout) == (1, 0, 0)


def test_a_log_that_standard_output_goes_to_is_appended_to(tmp_path: Path) -> None:
    """It is neither truncated nor overwritten from its start."""
    script = "from netbackend.pcapng import *; PcapngWriter('/dev/stdout').close()"
    with (tmp_path / "log").open("ab") as log:
        log.write(b"before\n")
        log.flush()
        subprocess.run([sys.executable, "-c", script], stdout=log, check=True)
    data = (tmp_path / "log").read_bytes()
    assert data.startswith(b"before\n\x0a\x0d\x0d\x0a")
    assert drops(data[7:]) == (0, 0, 0)


def test_a_socket_is_written_to_without_waiting() -> None:
    """As standard output may be one; its flags are not changed, either."""
    here, there = socket.socketpair()
    with here, there:
        writer = PcapngWriter("socket", ("lance",), os.dup(here.fileno()))
        while writer.write(FRAME, INBOUND):
            pass
        assert os.get_blocking(here.fileno())
        there.setblocking(False)
        data = read_all(there.fileno())
        writer.flush()
        data += read_all(there.fileno())
        writer.close()
        here.close()
        data += read_all(there.fileno())
    assert drops(data)[2] == 1
