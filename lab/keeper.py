"""Every descriptor that a process of a stack is given, by role and name, owned by the supervisor for the stack's life.

One table says what a process inherits, what its launch record lists, and what is closed at the end. The supervisor
keeps all of it open, so that it can look into what it has handed out, and so that a part can be started anew with what
its predecessor had. The names are those of ``machine.wiring``.

The one thing that is not here is a process's control channel: the supervisor holds the other end of that, and learns
from its end-of-file that the process is gone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Final

from machine import layout, signalpipe
from machine.config import Settings
from machine.shm import create
from machine.trace import TRACE_BYTES
from machine.wiring import EVENTS, INTERRUPTS, PAGES, RINGS, ROLES, bell, interrupt

__all__ = ["Keeper"]

_OWN_PAGES: Final = {"counters": layout.COUNTER_PAGE_BYTES, "trace": TRACE_BYTES}  # one for each role: name -> bytes
_SIGNALLED: Final = "signal"  # the doorbell that goes by pipes; eventfd and spin have eventfds, semaphore a name


class Keeper:
    """The table. ``make`` fills it with what a stack makes itself, ``lend`` adds what others bring."""

    def __init__(self) -> None:
        self._given: dict[str, dict[str, int]] = {role: {} for role in ROLES}
        self._owned: list[int] = []

    def of(self, role: str) -> dict[str, int]:
        """Name -> descriptor of all that the role is given."""
        return dict(self._given[role])

    def fd(self, role: str, name: str) -> int:
        """One descriptor; KeyError if the role has none of that name."""
        return self._given[role][name]

    def lend(self, role: str, name: str, fd: int) -> None:
        """Gives the role what ``fd`` is open to: a TAP, a file, a socket. ``fd`` itself stays the caller's."""
        self._give(name, self._own(os.dup(fd)), (role,))

    def make(self, settings: Settings) -> None:
        """Pages, doorbells, interrupts and events; SetupError if there is no room for the pages."""
        self._make_pages(settings)
        for name in sorted({name for names in EVENTS.values() for name in names}):
            self._give(name, self._eventfd(), (role for role in ROLES if name in EVENTS[role]))
        for role in ROLES:
            ringers = tuple(other for other in ROLES if role in RINGS[other])
            if settings.doorbell == _SIGNALLED:
                self._make_pipe(bell(role), role, ringers)
            elif settings.doorbell != "semaphore":
                self._give(bell(role), self._eventfd(), (role, *ringers))
            interrupters = tuple(other for other, whom in INTERRUPTS.items() if role in whom)
            if interrupters:
                self._make_pipe(interrupt(role), role, interrupters)
        if settings.foreign:  # the way of its memory from the vmm to vmapp (``machine.dma``)
            for role, end in zip(
                ("vmm", "vmapp"), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), strict=True
            ):
                self._give("dma", self._own(end.detach()), (role,))

    def close(self) -> None:
        """Gives everything up; may happen twice."""
        owned, self._owned = self._owned, []
        self._given = {role: {} for role in ROLES}
        for fd in owned:
            os.close(fd)

    def _make_pages(self, settings: Settings) -> None:
        sizes = {"ram": settings.ram_mib << 20, "gate": layout.GATE_BYTES, "world": layout.WORLD_BYTES}
        for name, size in sizes.items():
            if name == "ram" and settings.foreign:
                continue  # its memory is the client's
            self._give(name, self._own(create(name, size)), (role for role in ROLES if name in PAGES[role]))
        for role in ROLES:
            for name, size in _OWN_PAGES.items():
                self._give(name, self._own(create(f"{name}-{role}", size)), (role,))

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
