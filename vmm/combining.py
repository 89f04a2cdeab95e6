"""Send combining: whether a packet that the guest sends may wait for the next world switch (paper section 3.3.2).

An I/O-heavy load switches worlds often anyway: every host interrupt forces it. While the switch rate is high, a
packet is left in the Lance's own transmit ring, and the next switch, whatever causes it, sends all that wait.
Three things bound the wait: a number of queued packets (the paper's default is 3), the host's timer tick, and
the guest going idle.

The paper gives neither threshold nor decay. Here the rate is an exponentially weighted mean over ticks, and the
defaults are argued, with a table of what other values do, in docs/experiments/throughput.md.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Final

__all__ = ["SendCombining"]

_NS: Final = 1_000_000_000


class SendCombining:
    """``threshold``: switches per second; ``decay``: weight of the past at each tick, 0 to 1; ``cap``: packets.

    ``active`` says whether the rate, as of the last tick, is high enough. ``queued`` counts the packets waiting,
    ``asked`` all that the guest has asked to send.
    """

    __slots__ = ("_last_count", "_last_ns", "active", "asked", "cap", "decay", "enabled", "queued", "rate", "threshold")

    def __init__(self, enabled: bool, threshold: int, decay: float, cap: int) -> None:
        self.enabled = enabled
        self.threshold = threshold
        self.decay = decay
        self.cap = cap
        self.active = False
        self.queued = 0
        self.asked = 0
        self.rate = 0.0
        self._last_count = 0
        self._last_ns = monotonic_ns()

    def may_wait(self) -> bool:
        """Called for each packet sent: True if it may wait; it is then queued."""
        self.asked += 1
        if not self.active or self.queued + 1 >= self.cap:
            return False
        self.queued += 1
        return True

    def tick(self, switches: int) -> None:
        """The host's timer: brings the rate up to date. ``switches``: world switches since the start."""
        now = monotonic_ns()
        recent = (switches - self._last_count) * _NS / max(now - self._last_ns, 1)
        self.rate = self.decay * self.rate + (1 - self.decay) * recent
        self.active = self.enabled and self.rate >= self.threshold
        self._last_count, self._last_ns = switches, now
