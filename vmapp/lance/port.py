"""Where the Lance's cable ends: frames without FCS, one system call each.

``TapPort`` is the host's TAP (the paper's VMNet device). Anything with the two methods of ``FramePort`` serves.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

from machine.counters import VMAPP, indices
from machine.tapend import end_if_gone

__all__ = ["HOST", "FramePort", "TapPort"]

HOST: Final = "host"  # whose TAP it is, in messages

_INDEX: Final = indices(VMAPP)
_READS: Final = _INDEX["tap_reads"]
_EMPTY: Final = _INDEX["tap_empty_reads"]
_WRITES: Final = _INDEX["tap_writes"]
_REFUSED: Final = _INDEX["tap_write_errors"]


class FramePort(Protocol):
    """A wire: ``send`` and ``recv_into`` never block and never raise for what a frame contains."""

    def send(self, parts: list[memoryview] | memoryview) -> bool:
        """Sends one frame, whole or in pieces; False if it was lost."""

    def recv_into(self, parts: list[memoryview]) -> int:
        """Fills the pieces in order with the next frame; its length in bytes, 0 if nothing waits."""


class TapPort:
    """A TAP's file descriptor (IFF_TAP, IFF_NO_PI, non-blocking), owned and closed by the caller.

    A TAP that is down loses frames and delivers none. One that was deleted raises NetworkError (``machine.tapend``).
    Only a descriptor that is not open raises OSError: that is a defect of the caller.
    """

    __slots__ = ("_counters", "_fd")

    def __init__(self, fd: int, counters: memoryview | None = None) -> None:
        """``counters``: the vmapp's counter page, format "Q"; None counts into the void."""
        self._fd = fd
        self._counters = memoryview(bytearray(8 * len(_INDEX))).cast("Q") if counters is None else counters

    def send(self, parts: list[memoryview] | memoryview) -> bool:
        """One write() or writev(); False, and counted, if the kernel refuses the frame."""
        self._counters[_WRITES] += 1
        try:
            if isinstance(parts, list):
                os.writev(self._fd, parts)
            else:
                os.write(self._fd, parts)
        except OSError as error:  # EAGAIN: queue full; EIO: TAP down; EINVAL: too short or too long for the kernel
            self._look_at(error)
            self._counters[_REFUSED] += 1
            return False
        return True

    def recv_into(self, parts: list[memoryview]) -> int:
        """One readv(); what exceeds ``parts`` is cut off by the kernel."""
        try:
            size = os.readv(self._fd, parts)
        except BlockingIOError:
            self._counters[_EMPTY] += 1
            return 0
        except OSError as error:
            self._look_at(error)
            self._counters[_EMPTY] += 1
            return 0
        self._counters[_READS if size else _EMPTY] += 1
        return size

    def _look_at(self, error: OSError) -> None:
        """Whether an error means more than a lost frame."""
        if error.errno in (errno.EBADF, errno.EFAULT):
            raise error
        end_if_gone(self._fd, error, HOST)
