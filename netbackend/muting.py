"""Interfaces that say nothing while they are set up, so that a network is silent from its first moment on.

A kernel that gets an IPv6 address joins groups, and reports each to multicast routers, twice (RFC 3810, section
6.1). Here are no such routers; but the reports would reach every station, and make the first packets that somebody
counts more than he has sent. So until they are over, what an interface sends goes to a queueing discipline that
throws everything away.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from machine.errors import NetworkError
from netbackend.links import Session, existing
from netbackend.shaping import shape, swallow

__all__ = ["await_reports", "has_ipv6", "mute", "unmute", "without_ipv6"]

# Both reports go 2 to 3 timer ticks after they are due (net/ipv6/mcast.c), a tick being 10 ms at the longest; that
# the second one is due at once is a setting of all our namespaces.
_REPORTS_SECONDS: Final = 0.07


def mute(connection: Session, name: str) -> None:
    """From now on the link called ``name`` sends nothing. A kernel that cannot is one whose network begins noisily."""
    with suppress(NetworkError):
        swallow(connection, existing(connection, name))


def unmute(connection: Session, name: str) -> None:
    """Ends ``mute``; the link has its usual queueing discipline again."""
    shape(connection, existing(connection, name), None)


def await_reports() -> None:
    """Returns when the groups of every interface that is set up have been reported."""
    time.sleep(_REPORTS_SECONDS)


def has_ipv6() -> bool:
    """Whether the kernel has IPv6; one that was started with ipv6.disable=1 has not."""
    return os.path.exists("/proc/sys/net/ipv6/conf/all/disable_ipv6")


def without_ipv6(name: str) -> None:
    """Link ``name``, in the calling thread's namespace and still down, gets no address: it is a port, not a station."""
    with suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")
