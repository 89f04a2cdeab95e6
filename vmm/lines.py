"""What a device's interrupt line may lead to: an 8259 pair of ours, or a foreign guest's interrupt controller."""

from __future__ import annotations

from typing import Protocol

__all__ = ["InterruptInputs"]


class InterruptInputs(Protocol):
    """Level-triggered inputs, by number."""

    def set_line(self, irq: int, level: int) -> None:
        """A device drives input ``irq`` low (0) or high (anything else)."""
