"""Every descriptor that a process of a stack is given, by role and name, owned by the supervisor for the stack's life.

One table says what a process inherits, what its launch record lists, and what is closed at the end. The supervisor
keeps all of it open, so that it can look into what it has handed out, and so that a part can be started anew with what
its predecessor had. The names are those of ``machine.wiring``.

The one thing that is not here is a process's control channel: the supervisor holds the other end of that, and learns
from its end-of-file that the process is gone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterable
from typing import Final

import posix_ipc

from machine import layout, signalpipe
from machine.config import Settings
from machine.shm import PageReader, create
from machine.trace import TRACE_BYTES
from machine.wiring import EVENTS, INTERRUPTS, PAGES, RINGS, ROLES, bell, interrupt

__all__ = ["Keeper"]

_OWN_PAGES: Final = {"counters": layout.COUNTER_PAGE_BYTES, "trace": TRACE_BYTES}  # one for each role: name -> bytes
_LATER: Final = frozenset({"trace"})  # 8 MiB each, and most stacks are never traced: lab.tracing.switch reserves them
_SIGNALLED: Final = "signal"  # the doorbell that goes by pipes; eventfd and spin have eventfds, semaphore a name


class Keeper:
    """The table: ``make`` fills it with what a stack makes itself, ``lend`` adds what others bring, ``close`` ends it.

    ``semaphores``: role -> name of its doorbell, where doorbells are semaphores, which are opened by name.
    """

    def __init__(self) -> None:
        self._given: dict[str, dict[str, int]] = {role: {} for role in ROLES}
        self._owned: list[int] = []
        self.semaphores: dict[str, str] = {}
        self._sizes: dict[str, int] = {}  # of a page by its name, in bytes

    def of(self, role: str) -> dict[str, int]:
        """Name -> descriptor of all that the role is given."""
        return dict(self._given[role])

    def fd(self, role: str, name: str) -> int:
        """One descriptor; KeyError if the role has none of that name."""
        return self._given[role][name]

    def page(self, role: str, name: str) -> PageReader:
        """A shared page that the role maps, as whoever must not map it sees it."""
        return PageReader(self.fd(role, name), self._sizes[name])

    @property
    def cut(self) -> list[str]:
        """The pages that a process has made smaller, as "role/name": what is read of them is not what was there."""
        return [
            f"{role}/{name}"
            for role, given in self._given.items()
            for name in given.keys() & self._sizes.keys()
            if self.page(role, name).cut
        ]

    def lend(self, role: str, name: str, fd: int) -> None:
        """Gives the role what ``fd`` is open to: a TAP, a file, a socket. ``fd`` itself stays the caller's."""
        self._give(name, self._own(os.dup(fd)), (role,))

    def make(self, settings: Settings) -> None:
        """Pages, doorbells, interrupts and events; SetupError if there is no room for the pages."""
        self._give("parent", self._own(os.pidfd_open(os.getpid())), ROLES)  # so that they end with this process
        self._make_pages(settings)
        for name in sorted({name for names in EVENTS.values() for name in names}):
            self._give(name, self._eventfd(), (role for role in ROLES if name in EVENTS[role]))
        for role in ROLES:
            ringers = tuple(other for other in ROLES if role in RINGS[other])
            if settings.doorbell == _SIGNALLED:
                self._make_pipe(bell(role), role, ringers)
            elif settings.doorbell == "semaphore":
                self._make_semaphore(role)
            else:
                self._give(bell(role), self._eventfd(), (role, *ringers))
            interrupters = tuple(other for other, whom in INTERRUPTS.items() if role in whom)
            if interrupters:
                self._make_pipe(interrupt(role), role, interrupters)
        if settings.foreign:  # the way of its memory from the vmm to vmapp (``machine.dma``)
            for role, end in zip(
                ("vmm", "vmapp"), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), strict=True
            ):
                self._give("dma", self._own(end.detach()), (role,))

    def _make_semaphore(self, role: str) -> None:
        name = f"/worldswitch-{role}-{os.getpid()}-{secrets.token_hex(4)}"
        posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600).close()
        self.semaphores[role] = name

    def unlink_semaphores(self) -> None:
        """Every process has opened what it needs: the names go."""
        for name in self.semaphores.values():
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_semaphore(name)
        self.semaphores = {}

    def close(self) -> None:
        """Gives everything up; may happen twice."""
        self.unlink_semaphores()
        owned, self._owned = self._owned, []
        self._given = {role: {} for role in ROLES}
        for fd in owned:
            os.close(fd)

    def _make_pages(self, settings: Settings) -> None:
        sizes = {"ram": settings.ram_mib << 20, "gate": layout.GATE_BYTES, "world": layout.WORLD_BYTES}
        if settings.foreign:
            del sizes["ram"]  # its memory is the client's
        self._sizes = sizes | _OWN_PAGES
        for name, size in sizes.items():
            self._give(name, self._own(create(name, size)), (role for role in ROLES if name in PAGES[role]))
        for role in ROLES:
            for name, size in _OWN_PAGES.items():
                self._give(name, self._own(create(f"{name}-{role}", size, reserved=name not in _LATER)), (role,))

    def _make_pipe(self, name: str, owner: str, writers: Iterable[str]) -> None:
        """The read end for its owner; for each who writes, a write end with file status flags of its own."""
        read_end, write_end = signalpipe.make()
        self._give(name, self._own(read_end), (owner,))
        try:
            for role in writers:
                self._give(name, self._own(signalpipe.writer(write_end)), (role,))
        finally:
            os.close(write_end)

    def _eventfd(self) -> int:
        return self._own(os.eventfd(0, os.EFD_CLOEXEC))

    def _own(self, fd: int) -> int:
        self._owned.append(fd)
        return fd

    def _give(self, name: str, fd: int, roles: Iterable[str]) -> None:
        for role in roles:
            self._given[role][name] = fd
