"""A signal by pipe: whoever holds the write end signals the process at the read end, whatever their users are.

kill() asks whether the sender's user may signal the receiver's, needs the receiver's pid, and hits whoever has that
pid by then. A pipe needs neither: its read end is switched to signal-driven input (fcntl(2), "I/O availability
signals"), and each byte that is written raises a signal in the process that *owns* the read end. The owner makes
itself the owner (``own``), after it has given up its privileges: the kernel sends the signal with the rights of whoever
made the entry (``send_sigio`` in fs/fcntl.c), and everybody may signal himself, in a user namespace too. When a process
is started anew it takes the same read end over, and whoever writes does not notice.

Three rules keep both sides safe from each other:

* **Every writer has an open file description of its own** (``writer``), and it is non-blocking. File status flags
  belong to the description, so nobody else can make a write block; and a pipe's ends are apart, so a writer can
  neither take bytes out nor see the reader's flags. A reader cannot make itself a writer, either: the pipe is its
  maker's.
* **A full pipe means "told already"**: the owner has bytes that it has not taken yet, and takes them *before* it
  looks at what they announce (``drain``). So whatever was stored before the write that failed is seen by that look.
* **The signal is one of the first 31.** Those are merged while they are pending and can always be delivered.
  Real-time signals are queued, in a queue that all processes of one user share (RLIMIT_SIGPENDING): one process could
  fill it, and the kernel would send another one SIGIO instead, which ends whoever does not expect it. The two signals
  used here (``machine.doorbell.BELL_SIGNAL``, ``machine.launch.IRQ_SIGNAL``) are also ignored by default, so one that
  comes before its handler is there does no harm.

What the owner of a read end does with it (other owner, other signal, a smaller pipe, bytes that it never takes) keeps
signals from itself and from nobody else. (A reader whose page fault is answered by itself would keep the pipe's lock
meanwhile: that takes userfaultfd with privilege, or a FUSE mount in a user namespace, which a jail has to deny.)

The write is a system call that takes the pipe's lock, and on x86-64 a locked
instruction is a full fence: what was stored before it is visible when the signal arrives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
from collections.abc import Callable
from typing import Final

__all__ = ["drain", "make", "own", "sender", "writer"]

_BYTE: Final = b"\0"
_ALL: Final = 65536  # bytes: what a pipe holds (pipe(7)), so that one read() empties it


def make() -> tuple[int, int]:
    """A new pipe: read end, write end; both non-blocking, close-on-exec and the caller's."""
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def writer(write_end: int) -> int:
    """A further write end of the same pipe, with file status flags of its own; for the pipe's maker, or root.

    OSError where there is no /proc, or where the pipe is another user's.
    """
    return os.open(f"/proc/self/fd/{write_end}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def own(read_end: int, number: int) -> None:
    """From now on each byte raises signal ``number`` in this process; at once, if some have come already.

    The process must have its final user, and either block the signal or have a handler for it that drains.
    """
    fcntl.fcntl(read_end, fcntl.F_SETSIG, number)
    fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    waiting = select.poll()
    waiting.register(read_end, select.POLLIN)
    if waiting.poll(0):
        signal.raise_signal(number)


def drain(read_end: int) -> None:
    """Takes all bytes so far; the owner only, and before it looks at what they announce."""
    with contextlib.suppress(BlockingIOError):
        os.read(read_end, _ALL)


def sender(write_end: int) -> Callable[[], None]:
    """A function that signals the owner of the other end. It never blocks, and never raises.

    A pipe without a read end belongs to a process that has ended: there is nobody to tell.
    """
    write = os.write

    def send() -> None:
        try:
            write(write_end, _BYTE)
        except (BlockingIOError, BrokenPipeError):
            pass

    return send
