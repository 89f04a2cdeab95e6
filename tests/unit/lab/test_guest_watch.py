"""What ``status`` finds out about a guest from QEMU's monitor and the console, whatever those say. No QEMU."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.guestwatch import guest_troubles, qemu_state
from lab.qemu import MONITOR
from lab.rundir import RunDirectory
from machine.errors import GuestError

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'
EVENT = b'{"event": "STOP", "timestamp": {}}\n'
DONE = b'{"return": {}}\n'


def state(name: object) -> bytes:
    """QEMU's answer to query-status."""
    return json.dumps({"return": {"status": name, "running": False}}).encode() + b"\n"


@contextmanager
def monitor(path: Path, said: bytes, *, hang: bool = False) -> Iterator[None]:
    """A socket at ``path`` that says all of this at once to whoever comes, and then nothing more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        over = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                try:
                    connection.sendall(said)
                except OSError:  # nobody reads so much
                    pass
                if hang:
                    over.wait(10)
                else:
                    connection.shutdown(socket.SHUT_WR)
                    over.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_the_state_is_what_qemu_says(tmp_path: Path) -> None:
    """Greeting and events are passed over; the word is QEMU's own."""
    with monitor(tmp_path / "m", GREETING + EVENT + DONE + EVENT + state("internal-error")):
        assert qemu_state(tmp_path / "m") == "internal-error"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        GREETING,
        GREETING + DONE,
        GREETING + DONE + b"x\n",
        GREETING + DONE + b"[" * 5000 + b"\n",
        GREETING + DONE + b"\xff\xfe\n",
        GREETING + DONE + b'{"return": 1}\n',
        GREETING + DONE + b'{"error": {}}\n',
        GREETING + DONE + b'{"return": ' + b"9" * 20000 + b"}\n",
        GREETING + DONE + state(7),
        GREETING + DONE + state("\x1b[31mred"),
        GREETING + DONE + state("x" * 40),
        EVENT * 10000,
        b"x" * (1 << 20),
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, said: bytes) -> None:
    """Whatever comes is read up to a bound, and is one harmless line if it is not an answer."""
    with monitor(tmp_path / "m", said), pytest.raises(GuestError) as caught:
        qemu_state(tmp_path / "m", 1.0)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_silence_is_waited_for_only_so_long(tmp_path: Path) -> None:
    """A QEMU that was stopped says nothing; one byte at a time is no way round the limit."""
    with monitor(tmp_path / "m", GREETING, hang=True):
        started = time.monotonic()
        with pytest.raises(GuestError, match="does not say"):
            qemu_state(tmp_path / "m", 0.2)
        assert time.monotonic() - started < 2


def test_only_a_socket_of_qemus_own_is_asked(tmp_path: Path) -> None:
    """Its folder is its own: a link to another's socket, a FIFO, a file, and nothing are one line each."""
    with monitor(tmp_path / "other", GREETING + DONE + state("running"), hang=True):
        (tmp_path / "link").symlink_to(tmp_path / "other")
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "file").touch()
        for name in ("link", "fifo", "file", "nothing"):
            with pytest.raises(GuestError):
                qemu_state(tmp_path / name)
        assert qemu_state(tmp_path / "other") == "running"


def test_troubles_of_a_guest(tmp_path: Path) -> None:
    """None for one that runs; the state of one that does not; the last words of a kernel that has panicked."""
    directory = RunDirectory("x", tmp_path)
    directory.guest.mkdir(parents=True)
    with monitor(directory.guest / MONITOR, GREETING + DONE + state("running")):
        assert list(guest_troubles(directory)) == []
    (directory.guest / MONITOR).unlink()
    end = "[ 3.4] ---[ end Kernel panic - not syncing: \x1b]0;x\x07\u202eVFS: no root ]---\r\n"
    directory.console.write_text("x" * 5000 + "\n" + end)
    with monitor(directory.guest / MONITOR, GREETING + DONE + state("paused")):
        paused, panic = guest_troubles(directory)
    assert paused == "the guest does not run: QEMU says 'paused'"
    assert panic.endswith("Kernel panic - not syncing: ]0;xVFS: no root ]---")
    assert panic.isprintable()
    directory.console.write_text(end + "guest# ")
    (directory.guest / MONITOR).unlink()
    assert len(list(guest_troubles(directory))) == 1
