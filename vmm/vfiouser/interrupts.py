"""INTx through eventfds: a level that is carried by edges.

An eventfd can tell the client only that something happened. INTx is a level: the client must hear of a line that is
still up after its handler ran. So VFIO's INTx is masked with each trigger (VFIO_IRQ_INFO_AUTOMASKED), the client
unmasks it when the guest has had its turn, and a line that is still up then triggers again
(``drivers/vfio/pci/vfio_pci_intrs.c``).

**Nothing here blocks.** The descriptors are the client's, who may fill a counter, empty one, or change O_NONBLOCK,
which both sides share. Readiness is asked for before a write; a counter that is full wakes the client anyway. Reads
carry RWF_NOWAIT. A client that fills its counter between the question and the write delays only its own device:
os.eventfd_write() is not repeated after a signal, and while the client is active the process has a timer.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from vmm.vfiouser.messages import IrqAction
from vmm.vfiouser.stream import close_all

__all__ = ["IntxLine", "Trigger"]

_EVENTFD: Final = "anon_inode:[eventfd]"


def _check_eventfd(fd: int) -> None:
    """Raises OSError (EINVAL) if ``fd`` is no eventfd: only those can be written without an effect on others."""
    # The kernel names a descriptor's kind in the link; no path looks like this one.
    if os.readlink(f"/proc/self/fd/{fd}") != _EVENTFD:
        raise OSError(errno.EINVAL, "not an eventfd")


class Trigger:
    """The eventfd by which the client is told of an event, if it has set one. ``signal`` never waits."""

    __slots__ = ("_fd", "_writable")

    def __init__(self) -> None:
        self._fd = -1
        self._writable = select.poll()

    def connect(self, fd: int) -> None:
        """Signals by the eventfd ``fd`` from now on, and owns it. OSError (EINVAL), and not owned, if it is none."""
        _check_eventfd(fd)
        self.disconnect()
        self._fd = fd
        self._writable.register(fd, select.POLLOUT)

    def disconnect(self) -> None:
        """Has no eventfd to signal by."""
        if self._fd >= 0:
            self._writable.unregister(self._fd)
            close_all([self._fd])
            self._fd = -1

    reset = disconnect

    def test(self) -> None:
        """Signals because the client asks for it; OSError (EINVAL) without an eventfd."""
        if self._fd < 0:
            raise OSError(errno.EINVAL, "no eventfd to signal by")
        self.signal()

    def signal(self) -> None:
        """Adds 1 to the eventfd, unless its counter is full: then the client has been told, and has not looked."""
        if not self._writable.poll(0):
            return
        try:
            os.eventfd_write(self._fd, 1)
        except OSError:
            pass


class IntxLine:
    """INTA# of one device. ``level`` is the line (0 or 1), ``masked`` VFIO's mask, ``raised`` counts triggers.

    ``changed`` is called whenever ``descriptors`` have changed.

    **Patience.** QEMU unmasks at the first access that a guest's handler makes, before the handler can have lowered
    the line (``vfio_pci_intx_eoi`` in hw/vfio/pci.c); to trigger again at once would be an interrupt for nothing, with
    a message of its own, for each access up to the one that acknowledges. With ``patient``, a line that is up when it
    is unmasked is ``owed_ns`` (CLOCK_MONOTONIC, 0: nothing is owed): whoever drives the device calls ``repay()``
    when the client has been silent for a moment, or has kept the line up for too long.
    """

    __slots__ = (
        "_buffer",
        "_changed",
        "_connected",
        "_trigger",
        "_wakers",
        "level",
        "masked",
        "owed_ns",
        "patient",
        "raised",
    )

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._trigger = Trigger()
        self._connected = False  # as the trigger has it; looked at whenever the line moves
        self._wakers: dict[int, int] = {}  # IrqAction.MASK or UNMASK -> the eventfd by which the client asks for it
        self._buffer = [bytearray(8)]
        self.level = 0
        self.masked = False
        self.raised = 0
        self.patient = False
        self.owed_ns = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for input: eventfds by which the client masks or unmasks. ``take_wakers()`` serves them."""
        return tuple(self._wakers.values())

    def set_level(self, level: int) -> None:
        """Drives the line low (0) or high (anything else); a rise is signalled unless the line is masked."""
        self.owed_ns = 0
        if not level:
            self.level = 0
            return
        self.level = 1
        if self._connected and not self.masked:
            self.masked = True
            self.raised += 1
            self._trigger.signal()

    def hold(self) -> None:
        """The line goes up, but what has raised it may wait: the trigger is owed, until ``repay()`` or a fall."""
        self.level = 1
        if self._connected and not self.masked and not self.owed_ns:
            self.owed_ns = monotonic_ns()

    def connect(self, fd: int) -> None:
        """Signals by the eventfd ``fd`` from now on, and owns it. A line that is up is signalled at once.

        Raises OSError (EINVAL), and does not take ``fd``, if it is no eventfd.
        """
        self._trigger.connect(fd)
        self._connected = True
        self.set_level(self.level)

    def disconnect(self) -> None:
        """Has no eventfd to signal by; the mask stays."""
        self._trigger.disconnect()
        self._connected = False

    def set_waker(self, action: int, fd: int | None) -> None:
        """Has the client ask for ``action`` (MASK or UNMASK) by writing to the eventfd ``fd``, and owns it.

        None takes the eventfd away. Raises OSError (EINVAL), and does not take ``fd``, if it is no eventfd.
        """
        if fd is not None:
            _check_eventfd(fd)
        old = self._wakers.pop(action, None)
        if old is not None:
            close_all([old])
        if fd is not None:
            self._wakers[action] = fd
        if fd is not None or old is not None:
            self._changed()

    def take_wakers(self) -> bool:
        """Carries out what the client asked for by eventfd; whether there was anything."""
        taken = False
        for action, fd in self._wakers.items():
            try:
                os.preadv(fd, self._buffer, -1, os.RWF_NOWAIT)
            except OSError:
                continue
            taken = True
            if action == IrqAction.MASK:
                self.mask()
            else:
                self.unmask()
        return taken

    def mask(self) -> None:
        """Triggers nothing until it is unmasked; the level is kept."""
        self.masked = True

    def unmask(self) -> None:
        """May trigger again; a line that is up does so, at once or, with patience, if it stays up."""
        self.masked = False
        if not self.patient:
            self.set_level(self.level)
        elif self.level:
            self.hold()

    def repay(self) -> None:
        """Triggers for a line that has stayed up since it was unmasked; does nothing if none has."""
        if self.owed_ns:
            self.set_level(self.level)

    def test(self) -> None:
        """Signals the client whatever the line and the mask are, and leaves both. OSError (EINVAL): no eventfd."""
        self._trigger.test()

    def reset(self) -> None:
        """As if no client had set anything: no descriptors, no mask. The line stays as the device drives it."""
        self.disconnect()
        for action in tuple(self._wakers):
            self.set_waker(action, None)
        self.masked = False
        self.owed_ns = 0
