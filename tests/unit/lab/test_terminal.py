"""Relays between another's program and the user, or a file: nothing lost, nothing for ever, modes restored."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from lab import terminal
from lab.logfile import append, trim
from lab.terminal import FileRelay, Nowhere, Terminal, UserRelay, raw
from tests.kit.stack import eventually

ECHO = "import os, sys\nwhile data := os.read(0, 100):\n os.write(1, data.upper())\n if data == b'x': break"


JOBS = """
import fcntl, os, sys, termios
from lab.terminal import raw

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    if "leaves" in sys.argv:
        while os.tcgetpgrp(0) != os.getpid():
            pass
    before = termios.tcgetattr(0)
    with raw(0):
        changed = termios.tcgetattr(0) != before
        if "leaves" in sys.argv:
            os.tcsetpgrp(0, os.getppid())
    os._exit(changed)
if "leaves" in sys.argv:
    while os.getpgid(job) != job:
        pass
    os.tcsetpgrp(0, job)
_, status = os.waitpid(job, os.WUNTRACED)
if os.WIFSTOPPED(status):
    os.kill(job, 9)
    sys.exit(f"stopped by signal {os.WSTOPSIG(status)}")
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A shell and one job of it, which enters ``raw`` in the background, or is there when it leaves it."""


def start(relay: Terminal, code: str) -> subprocess.Popen[bytes]:
    """A program on a relay."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=relay.stdin,
        stdout=relay.stdout,
        stderr=relay.stdout,
        start_new_session=True,
    )
    relay.started()
    return process


def read_until(fd: int, text: bytes, seconds: float = 10.0) -> bytes:
    """What comes at ``fd`` up to and with ``text``."""
    seen, deadline = b"", time.monotonic() + seconds
    while text not in seen:
        assert select.select([fd], (), (), max(0.0, deadline - time.monotonic()))[0], seen
        seen += os.read(fd, 4096)
    return seen


def test_the_user_and_the_program_hear_each_other() -> None:
    """Every key arrives, Ctrl-C as a byte too; what the program prints is shown; the modes are restored."""
    user, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    relay = UserRelay(theirs, theirs)
    with start(relay, ECHO) as process:
        os.write(user, b"abc\x03")
        assert b"ABC\x03" in read_until(user, b"\x03")
        assert not termios.tcgetattr(theirs)[3] & (termios.ICANON | termios.ISIG | termios.ECHO)
        os.write(user, b"x")
        assert process.wait(10) == 0
    relay.close()
    relay.close()
    assert termios.tcgetattr(theirs) == before
    os.close(user)
    os.close(theirs)


def test_a_terminal_that_takes_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's side is full and nobody reads it: the keeper's close() has an end all the same."""
    monkeypatch.setattr(terminal, "_JOIN_SECONDS", 0.2)
    reader, writer = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    relay = UserRelay(nothing, writer)
    with start(relay, "import os\nwhile True: os.write(1, bytes(4096))") as process:
        time.sleep(0.3)
        begun = time.monotonic()
        process.kill()
        relay.close()
        assert time.monotonic() - begun < 5
    os.close(reader)  # lets the relay's thread go


def test_nothing_is_lost_on_a_terminal_that_does_not_wait() -> None:
    """Whoever has the user's terminal, too, may have made it non-blocking (ssh, node): what is printed waits for it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    relay = UserRelay(nothing, writer)
    with start(relay, "import os\nfor n in range(300): os.write(1, b'%01023d\\n' % n)") as process:
        time.sleep(0.3)  # the pipe holds 64 KiB, and is full meanwhile
        try:
            seen = read_until(reader, b"%01023d\n" % 299, 20)
            assert process.wait(10) == 0
        finally:
            process.kill()  # one that nobody reads would never end
    relay.close()
    assert seen == b"".join(b"%01023d\n" % n for n in range(300))
    for fd in (reader, writer, nothing):
        os.close(fd)


def test_the_end_of_the_users_input_is_no_end() -> None:
    """Standard input that is /dev/null, or closed, leaves the program running, and its output visible."""
    for source in (os.open(os.devnull, os.O_RDONLY), 999):
        reader, writer = os.pipe()
        relay = UserRelay(source, writer)
        with start(relay, "import time; time.sleep(0.2); print('on it goes')") as process:
            assert b"on it goes" in read_until(reader, b"\n")
            assert process.wait(10) == 0
        assert relay.last_words() == "on it goes"
        relay.close()
        os.close(reader)
        os.close(writer)


def test_the_file_of_a_console_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that prints without end fills no file system; the newest stays, and so do its last words."""
    monkeypatch.setattr(terminal, "CONSOLE_BYTES", 20_000)
    with (tmp_path / "console").open("a+b") as file:
        relay = FileRelay(file.fileno())
        with start(relay, "for i in range(20000): print('line', i)\nprint('\\x1b[31mbye', flush=True)") as process:
            assert process.wait(20) == 0
        assert relay.last_words() == "[31mbye"
        relay.close()
    data = (tmp_path / "console").read_bytes()
    assert len(data) <= 20_000 + 4096
    assert data.startswith(b"[... cut")
    assert data.endswith(b"bye\n")


def test_last_words_of_nobody() -> None:
    """A program that nobody listens to has none."""
    relay = Nowhere()
    with start(relay, "print('hello')") as process:
        assert process.wait(10) == 0
    assert relay.last_words() == ""
    relay.close()


def test_raw_leaves_what_is_no_terminal() -> None:
    """A pipe, and a descriptor that is not open, are passed over."""
    reader, writer = os.pipe()
    for fd in (reader, 999):
        with raw(fd):
            pass
    os.close(reader)
    os.close(writer)


def test_trim_keeps_whole_lines(tmp_path: Path) -> None:
    """A file over its limit loses its older half, at a line's end; one within it is left alone."""
    with (tmp_path / "log").open("a+b") as file:
        for number in range(100):
            append(file.fileno(), b"%04d\n" % number, 400)
        assert eventually(lambda: os.fstat(file.fileno()).st_size <= 400)
        trim(file.fileno(), 400)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].startswith("[... cut")
    assert [int(line) for line in lines[1:]] == list(range(100 - len(lines) + 1, 100))


@pytest.mark.parametrize(("when", "changed"), [("enters", 0), ("leaves", 1)])
def test_a_job_in_the_background_leaves_the_terminal_alone(when: str, changed: int) -> None:
    """`up --guest qemu &`: the shell's modes stay, and the job is not stopped (SIGTTOU), at its start or at its end."""
    user, theirs = pty.openpty()
    job = subprocess.run(
        [sys.executable, "-c", JOBS, when], stdin=theirs, stderr=subprocess.PIPE, start_new_session=True, timeout=30
    )
    assert (job.returncode, job.stderr) == (changed, b"")
    os.close(user)
    os.close(theirs)
