"""When a TAP is gone: somebody has deleted the interface under the descriptor, which stays open and is of no use.

The kernel then answers reads and writes with EBADFD, and poll() with POLLERR, at once and for ever
(``drivers/net/tun.c``, ``tun_get`` and ``tun_chr_poll``): a loop that takes this for "nothing there" spins. An
interface that is merely *down* is another matter: writes fail with EIO, reads find nothing, poll() reports nothing,
and all is well again when it is up.
"""

from __future__ import annotations

import errno
import select
from typing import Final

from machine.errors import NetworkError

__all__ = ["TAP_FAILED", "end_if_gone", "gone"]

TAP_FAILED: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL
"""Events of poll() and of epoll (the values are the same) after which no frame will come."""

_GONE: Final = frozenset({errno.EBADFD, errno.ENODEV, errno.ENXIO})
_PERHAPS: Final = errno.EIO  # down, as a rule; older kernels say so, too, while the interface is being deleted


def gone(whose: str) -> NetworkError:
    """The error with which the process at the TAP ends; ``whose``: "host" or "guest's"."""
    return NetworkError(f"the {whose} TAP is gone: its interface was deleted while the stack ran")


def end_if_gone(fd: int, error: OSError, whose: str) -> None:
    """Raises ``gone`` if ``error``, of a read or a write of the TAP ``fd``, says that; returns otherwise."""
    if error.errno in _GONE or (error.errno == _PERHAPS and _failed(fd)):
        raise gone(whose) from None


def _failed(fd: int) -> bool:
    events = select.poll()
    events.register(fd, 0)
    return any(event & TAP_FAILED for _, event in events.poll(0))
