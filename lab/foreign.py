"""What a stack needs for a guest of another's making: a listening socket, a folder, and perhaps a program to start."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import qemu
from lab.child import Child, spawn_program
from lab.guestfiles import check_files, open_disk, open_kvm
from lab.rundir import RunDirectory
from lab.terminal import FileRelay, Terminal, UserRelay
from machine.config import Settings
from machine.process import NOBODY
from netbackend.plan import NetworkPlan
from vmm.vfiouser.listen import listen

__all__ = ["ForeignGuest", "foreign_guest", "socket_path"]


@dataclass(frozen=True, slots=True)
class ForeignGuest:
    """``listener``: where the vmm serves it. ``words``: the program, started in ``folder``; empty: others will come.

    ``fds``: what the program inherits. ``terminal``: where its console is; None where there is no program.
    """

    listener: socket.socket
    folder: Path
    words: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()
    terminal: Terminal | None = None

    def last_words(self) -> str:
        """The last line that the program printed; nothing unprintable."""
        return "" if self.terminal is None else self.terminal.last_words()

    def spawn(self, role: str, cpus: Iterable[int]) -> Child:
        """Starts the program."""
        assert self.terminal is not None
        return spawn_program(role, self.words, self.fds, self.folder, cpus, self.terminal)


def socket_path(settings: Settings, directory: RunDirectory) -> Path:
    """Where the device is served."""
    return Path(settings.socket) if settings.socket is not None else directory.guest / qemu.SOCKET


@contextlib.contextmanager
def foreign_guest(
    settings: Settings, plan: NetworkPlan, directory: RunDirectory, *, terminal: bool
) -> Iterator[ForeignGuest]:
    """All of it, and none of it afterwards. ``terminal``: the guest's console is shown on this process's own terminal.

    SetupError or ConfigError, one line, if the image, the disk or the socket's path won't do.
    """
    path = socket_path(settings, directory)
    with contextlib.ExitStack() as undo:
        directory.guest.mkdir(mode=0o700, exist_ok=True)
        undo.callback(shutil.rmtree, directory.guest, ignore_errors=True)
        listener = undo.enter_context(listen(path))
        undo.callback(path.unlink, missing_ok=True)
        if settings.guest == "none":
            yield ForeignGuest(listener, directory.guest)
            return
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        os.chown(directory.guest, NOBODY, NOBODY)  # last: QEMU's place, and the only one; it makes its own socket there
        disk = () if settings.disk is None else open_disk(settings.disk, undo)
        kvm = open_kvm(undo) if settings.accel == "kvm" else None
        words = qemu.command(settings, plan, disk, kvm)
        check_files(settings)
        fds = disk if kvm is None else (*disk, kvm)
        console: Terminal = UserRelay() if terminal else FileRelay(_open_console(directory.console, undo))
        undo.callback(console.close)
        yield ForeignGuest(listener, directory.guest, words, fds, console)


def _open_console(path: Path, undo: contextlib.ExitStack) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    undo.callback(os.close, fd)
    return fd
