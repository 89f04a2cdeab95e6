"""Which guest a benchmark's stack has: the built-in one, or a stock one under QEMU (``--guest qemu``).

The built-in guest's network stack is a namespace, in which any program runs. A stock guest has iperf3 and busybox, and
is asked over its command channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lab import preflight, qemu
from lab.bench.qemuload import Guest
from lab.bench.testbed import Testbed
from lab.guestconsole import connected
from lab.guestimage import find_image
from lab.load.place import Place
from lab.rundir import RunDirectory
from machine.config import Settings

__all__ = ["STOCK_DRIVER", "check_guest", "driver_of", "guest_keys", "stock_guest"]

STOCK_DRIVER: Final = "stock pcnet32"
"""What a stock guest has in the place of setting ``driver``: Linux, drivers/net/ethernet/amd/pcnet32.c."""


def check_guest(settings: Settings) -> None:
    """SetupError, one line, if the guest is a stock one and what it needs is not on this machine."""
    if settings.foreign:
        find_image(*(None if it is None else Path(it) for it in (settings.qemu, settings.kernel, settings.initrd)))
        preflight.require_program("iperf3", "iperf3")


def driver_of(settings: Settings) -> str:
    """The guest's network driver, as samples and tables name it."""
    return STOCK_DRIVER if settings.foreign else settings.driver


def guest_keys(settings: Settings) -> dict[str, str]:
    """What tells a stock guest's samples from those of the built-in one, which have no such key."""
    return {"guest": settings.guest} if settings.foreign else {}


@contextmanager
def stock_guest(bed: Testbed) -> Iterator[Guest | None]:
    """The testbed's stock guest, once it answers; None if the guest is the built-in one."""
    if not bed.settings.foreign:
        yield None
        return
    with connected(RunDirectory(bed.settings.name).guest / qemu.CHANNEL) as console:
        yield Guest(console, bed.plan.guest.address, Place.of(bed.plan.peer))
