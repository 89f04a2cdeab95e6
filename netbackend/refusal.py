"""The one line for what the kernel refuses; light enough for the data path to import."""

from __future__ import annotations

import errno
import os

from machine.errors import NetworkError, SetupError

__all__ = ["refusal"]


def refusal(action: str, number: int | None) -> SetupError | NetworkError:
    """The error to raise when the kernel answers ``action`` with errno ``number``; privilege is the user's to fix."""
    reason = os.strerror(number or 0)
    if number in (errno.EPERM, errno.EACCES):
        return SetupError(f"cannot {action}: {reason}; run as root (sudo)")
    return NetworkError(f"cannot {action}: {reason}")
