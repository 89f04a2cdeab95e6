"""The terminal of somebody else's program: what it prints and reads, relayed by its keeper.

QEMU runs as nobody and is not trusted. If it had the user's terminal, it could type a command there for the user's
shell to run (TIOCSTI), or change the terminal's modes for good. So it never has it. Two kinds, by who looks:

============== ======================= ==================================== =====================================
kind           QEMU's stdin            QEMU's stdout and stderr             the keeper
============== ======================= ==================================== =====================================
``UserRelay``  a pseudo-terminal       the same                             copies both ways: to and from the user
``FileRelay``  /dev/null               a pipe                               writes a file, of bounded size
``Nowhere``    /dev/null               /dev/null                            hears nothing
============== ======================= ==================================== =====================================

A relay is a thread, because its keeper sleeps in many places, and the user's terminal may refuse to take anything
(Ctrl-S) for as long as the user likes. It shares nothing with the rest but the last words, and takes no signals.
"""

from __future__ import annotations

import abc
import contextlib
import os
import select
import termios
import threading
import time
from collections.abc import Iterator
from typing import Final, Protocol

from lab.complaint import last_line
from lab.logfile import append
from machine.descriptors import write_all
from machine.process import start_without_signals

__all__ = ["CONSOLE_BYTES", "FileRelay", "Nowhere", "Terminal", "UserRelay", "raw"]

CONSOLE_BYTES: Final = 4 << 20
"""What the file of a console may hold; of a longer one the newest half stays."""

_CHUNK_BYTES: Final = 4096  # a terminal's own buffer
_TYPED_AHEAD: Final = 4096
_TAIL_BYTES: Final = 1000
_JOIN_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.002  # after a full chunk for a file: 2 MB/s at most, so a guest that prints on costs little

_INPUT, _OUTPUT, _LOCAL = 0, 1, 3  # places in what tcgetattr() returns
_SPECIAL: Final = 6


class Terminal(Protocol):
    """What a program is started with, and its keeper asks afterwards."""

    stdin: int
    stdout: int

    def started(self) -> None:
        """The program has its descriptors: the keeper's own copies go, and the relay begins."""

    def last_words(self) -> str:
        """The last line that the program printed, nothing unprintable in it; waits a moment for what is on its way."""

    def close(self) -> None:
        """Ends the relay, after what the program has left behind; harmless twice."""


class Nowhere:
    """A program that nobody listens to."""

    def __init__(self) -> None:
        self.stdin = self.stdout = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def started(self) -> None:
        """See ``Terminal``."""
        self.close()

    def last_words(self) -> str:
        """None."""
        return ""

    def close(self) -> None:
        """See ``Terminal``."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = self.stdout = -1


class _Relay(abc.ABC):
    """A thread that reads ``source`` until nobody can write there any more, and remembers the end of it."""

    def __init__(self, source: int, stdin: int, stdout: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self._source = source
        self._tail = b""
        self._thread: threading.Thread | None = None
        self._ending, self._end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closed = False

    def started(self) -> None:
        """See ``Terminal``."""
        self._give_up_ends()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        start_without_signals(self._thread)

    def _give_up_ends(self) -> None:
        for fd in {self.stdin, self.stdout} - {-1}:
            os.close(fd)
        self.stdin = self.stdout = -1

    def last_words(self) -> str:
        """See ``Terminal``."""
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        return last_line(self._tail.decode(errors="replace"))

    def close(self) -> None:
        """See ``Terminal``."""
        if self._closed:
            return
        self._closed = True
        self._give_up_ends()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)  # it sees the end of the program by itself
            with contextlib.suppress(BlockingIOError):
                os.write(self._end, b"\0")
            self._thread.join(_JOIN_SECONDS)
            if self._thread.is_alive():
                return  # it waits for a terminal that takes nothing; the descriptors go with the process
        for fd in (self._source, self._ending, self._end):
            os.close(fd)

    def _read(self) -> bytes:
        """What the program has printed; empty at the end of it, which a pseudo-terminal reports as EIO."""
        try:
            data = os.read(self._source, _CHUNK_BYTES)
        except OSError:
            return b""
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        return data

    @abc.abstractmethod
    def _run(self) -> None:
        """The thread's work; it ends with the program, or when ``_ending`` is readable."""


class FileRelay(_Relay):
    """What the program prints goes to the open file ``file``, which stays the caller's; it can read nothing."""

    def __init__(self, file: int) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        super().__init__(reader, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), writer)
        self._file = file

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        poll.register(self._ending, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._source not in ready:
                return
            data = self._read()
            if not data:
                return
            with contextlib.suppress(OSError):  # a full file system: the guest runs on, and the tail is kept
                append(self._file, data, CONSOLE_BYTES)
            if len(data) == _CHUNK_BYTES:
                time.sleep(_PAUSE_SECONDS)


class UserRelay(_Relay):
    """The program has a pseudo-terminal; the user's, descriptors ``user_in`` and ``user_out``, is its other end."""

    def __init__(self, user_in: int = 0, user_out: int = 1) -> None:
        master, slave = os.openpty()
        for fd in (master, slave):
            os.set_inheritable(fd, False)
        os.set_blocking(master, False)
        modes = termios.tcgetattr(slave)
        modes[_OUTPUT] &= ~termios.ONLCR  # the user's terminal does that
        modes[_LOCAL] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        super().__init__(master, os.dup(slave), slave)
        self._user_in = user_in
        self._user_out = user_out
        self._modes = contextlib.ExitStack()

    def started(self) -> None:
        """See ``Terminal``; from now on, every key is the program's."""
        self._modes.enter_context(raw(self._user_in))
        super().started()

    def close(self) -> None:
        """See ``Terminal``; the user's terminal is as it was."""
        super().close()
        self._modes.close()

    def _run(self) -> None:
        typed = b""
        reads = _is_open(self._user_in)
        while True:
            ready = self._wait(len(typed), reads=reads)
            if self._ending in ready and self._source not in ready:
                return
            if self._user_in in ready and reads:
                more = self._typed()
                reads = bool(more)
                typed += more
            if ready.get(self._source, 0) & select.POLLOUT:
                typed = self._pass_on(typed)
            if ready.get(self._source, 0) & ~select.POLLOUT and not self._show():
                return

    def _wait(self, typed: int, *, reads: bool) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._source, select.POLLIN | (select.POLLOUT if typed else 0))
        poll.register(self._ending, select.POLLIN)
        if reads and typed < _TYPED_AHEAD:
            poll.register(self._user_in, select.POLLIN)
        return dict(poll.poll())

    def _typed(self) -> bytes:
        """Empty when there is nothing more to come: end of file, a hang-up, or another's turn at the terminal."""
        try:
            return os.read(self._user_in, _CHUNK_BYTES)
        except OSError:
            return b""

    def _pass_on(self, typed: bytes) -> bytes:
        """Gives the program what it takes of what was typed; what is left."""
        try:
            return typed[os.write(self._source, typed) :]
        except BlockingIOError:
            return typed
        except OSError:
            return b""

    def _show(self) -> bool:
        """Shows the user what the program has printed; False at its end."""
        data = self._read()
        with contextlib.suppress(OSError):  # the user's terminal is gone: the program runs on, unread
            write_all(self._user_out, data)
        return bool(data)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def raw(fd: int = 0) -> Iterator[None]:
    """The terminal ``fd`` passes every key on, Ctrl-C included, within the block; then its modes are as before.

    Nothing is changed if it is no terminal, or while it is another's turn at it: a job in the background that changed
    modes would change those of the shell, and be stopped for it (SIGTTOU), with half a stack made or removed.
    Output goes on being processed, as QEMU leaves it, too.
    """
    if not _our_turn(fd):
        yield
        return
    try:
        before = termios.tcgetattr(fd)
    except (termios.error, OSError, ValueError):
        yield
        return
    modes = termios.tcgetattr(fd)
    modes[_INPUT] &= ~(termios.BRKINT | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON | termios.ISTRIP)
    modes[_LOCAL] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
    modes[_SPECIAL][termios.VMIN], modes[_SPECIAL][termios.VTIME] = 1, 0
    # TCSANOW: to wait until the terminal has shown everything could be for ever (Ctrl-S).
    try:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSANOW, modes)
        yield
    finally:
        if _our_turn(fd):  # if not, a shell has it, which has set the modes that it wants
            with contextlib.suppress(termios.error):
                termios.tcsetattr(fd, termios.TCSANOW, before)


def _our_turn(fd: int) -> bool:
    """Whether nobody else has the terminal ``fd``: this process is in its foreground, or it is of no session's."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except (OSError, ValueError):
        return True
