"""What ends a HLT from inside the guest machine itself, as the processor sees it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Events"]


class Events(Protocol):
    """``select.poll`` is one, and so is whatever looks at more than descriptors (``guest.card.GuestEvents``)."""

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Waits ``timeout`` ms (None: for ever) for events: (descriptor, event mask) of each; empty: none came."""
