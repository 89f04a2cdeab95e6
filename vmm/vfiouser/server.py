"""A vfio-user server: a listening socket, one client at a time, and one device that outlives its clients."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final

from vmm.vfiouser.device import Device
from vmm.vfiouser.interrupts import IntxLine
from vmm.vfiouser.session import Session
from vmm.vfiouser.stream import Disconnected
from vmm.vfiouser.surplus import SurplusClients

__all__ = ["Server"]


_GREETING_SECONDS: Final = 5.0  # a client that has not agreed on a version by then keeps no other away any longer
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """Serves ``device`` to whoever connects to ``listener``, a listening AF_UNIX stream socket, which it owns.

    The loop that drives it polls ``descriptors`` for input, for ``due_in()`` seconds at most, and calls ``step()``
    until that answers false or ``pending`` does. ``changed`` counts how often ``descriptors`` has changed.
    ``interrupt`` is the device's INTA#. Whoever comes while a client is served is told so (``vmm.vfiouser.surplus``).

    ``log`` takes one line; ``trouble`` one that says why the card cannot work for the present client.
    """

    def __init__(
        self,
        listener: socket.socket,
        device: Device,
        log: Callable[[str], None],
        trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._device = device
        self._log = log
        self._trouble = trouble
        self._connection: socket.socket | None = None
        self._session: Session | None = None
        self._greet_by = 0.0  # CLOCK_MONOTONIC in seconds, while there is a client that has not greeted; else 0
        self._surplus = SurplusClients()
        self._refused = False  # whether this client's time has seen a second one, and logged it
        self._deaf = False  # whether the listener is left alone: closed, or until this client has gone
        self.changed = 0
        self.interrupt: Final = IntxLine(self._count_change)

    def _count_change(self) -> None:
        self.changed += 1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for input."""
        connection = () if self._connection is None else (self._connection.fileno(),)
        listener = () if self._deaf else (self._listener.fileno(),)
        return (*connection, *self.interrupt.descriptors, *self._surplus.descriptors, *listener)

    @property
    def connected(self) -> bool:
        """Whether there is a client."""
        return self._session is not None

    @property
    def pending(self) -> bool:
        """Whether there is a message to carry out that poll() does not see."""
        return self._session is not None and self._session.pending

    def due_in(self) -> float | None:
        """Seconds until ``step()`` is to be called even if nothing comes; None: it need not be."""
        surplus = self._surplus.due_in()
        if not self._greet_by:
            return surplus
        greeting = max(0.0, self._greet_by - monotonic())
        return greeting if surplus is None else min(greeting, surplus)

    def step(self) -> bool:
        """One unit of work without blocking: a message, an eventfd, or a client that comes or goes; false if none."""
        if self._surplus and self._surplus.serve():
            self.changed += 1
            return True
        session = self._session
        if session is not None:
            try:
                if session.step():
                    return True
            except Disconnected:
                self._end_client()
                return True
            if self._greet_by and self._is_silent(session):
                return True
            if self.interrupt.descriptors and self.interrupt.take_wakers():
                self._device.interrupt_unmasked()
                return True
        return self._accept()

    def close(self) -> None:
        """Ends the client's connection, if there is one, and listens no more. The socket's file is the caller's."""
        if self._session is not None:
            self._end_client()
        self._surplus.close()
        self._deaf = True
        self._listener.close()

    def _is_silent(self, session: Session) -> bool:
        """Ends a client that has connected and does not greet; whether it has been ended."""
        if session.greeted:
            self._greet_by = 0.0
        elif monotonic() >= self._greet_by:
            self._log(f"vfio-user: disconnected: no version after {_GREETING_SECONDS:g} s")
            self._end_client()
            return True
        return False

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            return self._accept_failed(error)
        if self._session is not None:
            self._surplus.add(connection)
            self.changed += 1
            self._log_once("vfio-user: refused a second client: one at a time")
            return True
        self._connection = connection
        self._session = Session(connection, self._device, self.interrupt, self._log, self._trouble)
        self._greet_by = monotonic() + _GREETING_SECONDS
        self._refused = False
        self.changed += 1
        self._log("vfio-user: connected")
        return True

    def _accept_failed(self, error: OSError) -> bool:
        """It was gone before its turn came, or there is no descriptor for it, or nobody listens any more."""
        if error.errno in _EXHAUSTED:
            self._log_once(f"vfio-user: a client cannot be accepted: {error.strerror}")
            if self._session is not None and not self._deaf:
                self._deaf = True  # it would be refused anyway, and poll() would report it without end
                self.changed += 1
        return False

    def _log_once(self, line: str) -> None:
        if not self._refused:
            self._refused = True
            self._log(line)

    def _end_client(self) -> None:
        """Leaves nothing of the client: no descriptor, no mapping, no state in the device."""
        if self._session is not None and self._connection is not None:
            self._session.close()
            self._connection.close()
        self._session = self._connection = None
        self._greet_by = 0.0
        self._deaf = False
        self.interrupt.reset()
        self.changed += 1
        for undo in (self._device.reset, self._device.unmap_all):
            try:
                undo()
            except OSError as error:
                self._log(f"vfio-user: after the client has gone: {error.strerror}")
