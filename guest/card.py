"""Has the card do what the guest's kernel wants, at moments when the driver can: what ``ndo_set_rx_mode`` is for.

The kernel's announcements end a HLT like any other event of the guest machine. What it does not announce is found
once a second, asleep or busy. Programming the chip takes port accesses, so it is done by the driver's loop, between
two frames and with interrupts off, as pcnet32 does it under its lock.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from guest.drivers.pcnet import Pcnet
from guest.drivers.receivemode import set_receive_mode
from guest.interface import CardSettings, Interface

__all__ = ["Card", "GuestEvents"]

_SECOND_NS: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000


class Card:
    """The chip as the kernel wants it. ``wanted``: what the driver has yet to ``apply``; None as a rule.

    ``due_ns``: when the kernel has to be asked again, of the monotonic clock.
    ``interface``: where the kernel's wishes are found; None: it has none, and the card stays as it was opened.
    """

    def __init__(self, chip: Pcnet, interface: Interface | None = None) -> None:
        self.wanted: CardSettings | None = None
        self.opened: Callable[[], None] = lambda: None  # what a driver adds to the chip's set-up
        self._chip = chip
        self._interface = interface
        self._found: CardSettings | None = None
        self.due_ns = 0

    @property
    def fd(self) -> int:
        """Readable when the kernel has announced something; -1 where nothing is ever announced."""
        return -1 if self._interface is None else self._interface.fileno()

    def start(self, mac: bytes) -> None:
        """Opens the chip as the kernel wants it from the first frame on; ``mac``: its own, if the kernel says nothing.

        SetupError if the chip does not come up.
        """
        if not self.look(monotonic_ns()):
            self._chip.open(mac)
        elif self.wanted is not None and self.wanted.up:
            wanted, self.wanted = self.wanted, None
            self._chip.open(wanted.mac, wanted.promiscuous, wanted.ladrf)

    def look(self, now_ns: int) -> bool:
        """Asks the kernel; whether the card has to be programmed for it."""
        if self._interface is None:
            return False
        self.due_ns = now_ns + _SECOND_NS
        found = self._interface.look()
        if found is not None and found != self._found:
            self._found = self.wanted = found
        return self.wanted is not None

    def look_if_due(self) -> None:
        """For a driver that has no time to halt: asks the kernel if it has not been asked for a second."""
        now = monotonic_ns()
        if now >= self.due_ns:
            self.look(now)

    def apply(self) -> None:
        """Programs the chip for what is wanted. Interrupts must be off; SetupError if the chip does not come up."""
        wanted, self.wanted = self.wanted, None
        if wanted is None:
            return
        if not wanted.up:
            if self._chip.up:
                self._chip.close()
        elif self._chip.up:
            set_receive_mode(self._chip, wanted.mac, wanted.promiscuous, wanted.ladrf)
        else:
            self._chip.open(wanted.mac, wanted.promiscuous, wanted.ladrf)
            self.opened()


class GuestEvents:
    """What ends a HLT from inside the guest machine: a ``select.poll`` that also hears the guest's kernel.

    ``fds``: what else ends it, the wake descriptor first of all. A look that finds nothing new leaves the processor
    asleep: an idle guest costs no more than the look.
    """

    def __init__(self, card: Card, *fds: int) -> None:
        self._card = card
        self._fd = card.fd
        self._poll = select.poll()
        for fd in fds:
            self._poll.register(fd, select.POLLIN)
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """As ``select.poll.poll``: what is ready, with the kernel's descriptor if the card has to be programmed."""
        card, kernel = self._card, self._fd
        if kernel < 0:
            return self._poll.poll(timeout)
        while True:
            now = monotonic_ns()
            if now >= card.due_ns and card.look(now):
                return [(kernel, select.POLLIN)]
            ready = self._poll.poll((card.due_ns - now) // _NS_PER_MS + 1 if timeout is None else timeout)
            if len(ready) == 1 and ready[0][0] != kernel:
                return ready  # as a rule: a frame, or an interrupt
            others = [pair for pair in ready if pair[0] != kernel]
            if len(others) < len(ready) and card.look(monotonic_ns()):
                others.append((kernel, select.POLLIN))
            if others or timeout is not None:
                return others
