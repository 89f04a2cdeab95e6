"""Keeps the MTU of the guest's interface within what its card can carry.

A driver refuses an MTU that is too large (``ndo_change_mtu``, ``max_mtu``), and the kernel tells the user so. A
TAP's driver takes anything up to 65521, and no ioctl lowers that; so all that is left is to set the MTU back as
soon as the kernel has announced it. The guest process cannot: it is nobody, as it should be. So this is done by
whoever has made the network, in a thread that sleeps until the kernel has news. Frames that are too long and are
sent in the meantime reach the guest's driver, which counts them.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Final

from machine.process import start_without_signals
from netbackend.linkwatch import LinkWatch
from netbackend.refusal import refusal

__all__ = ["MtuGuard"]

_SIOCGIFNAME: Final = 0x8910  # linux/sockios.h
_SIOCSIFMTU: Final = 0x8922
_IFREQ: Final = struct.Struct("16si20x")  # struct ifreq: name, and an index or an MTU


class MtuGuard:
    """Guards interface ``name`` until ``close``; to be made inside its network namespace. ``limit``: bytes of IP."""

    def __init__(self, name: str, limit: int) -> None:
        """NetworkError if there is no such interface, or the kernel refuses the sockets."""
        try:
            index = socket.if_nametoindex(name)
        except OSError as error:
            raise refusal(f"look {name} up", error.errno) from None
        self._limit = limit
        self._watch = LinkWatch(index)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # of this namespace, wherever the thread is
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="mtu-guard", daemon=True)
        start_without_signals(self._thread)

    def close(self) -> None:
        """Ends the guard; harmless the second time. Until then its sockets keep the namespace alive."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        os.eventfd_write(self._stop, 1)
        thread.join()
        self._watch.close()
        self._socket.close()
        os.close(self._stop)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        poll.register(self._watch, select.POLLIN)
        self._check()
        while not any(fd == self._stop for fd, _ in poll.poll()):
            self._check()

    def _check(self) -> None:
        news = self._watch.look()
        if news is None or news.mtu <= self._limit:
            return
        with suppress(OSError):  # gone meanwhile, or moved away
            # By its name of now, for a user may have given it another one.
            name, _ = _IFREQ.unpack(fcntl.ioctl(self._socket, _SIOCGIFNAME, _IFREQ.pack(b"", news.index)))
            fcntl.ioctl(self._socket, _SIOCSIFMTU, _IFREQ.pack(name, self._limit))
