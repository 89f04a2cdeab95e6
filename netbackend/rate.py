"""Link rates: what a user writes (``100mbit``), and the token bucket that makes a veth behave like such a wire."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from machine.errors import ConfigError

__all__ = ["ETHERNET_OVERHEAD", "FASTEST", "MINIMUM_WIRE_FRAME", "SLOWEST", "TokenBucket", "format_rate", "parse_rate"]

SLOWEST: Final = 64_000  # bit/s
FASTEST: Final = 400_000_000_000  # bit/s

# IEEE 802.3: what a frame occupies on the wire beyond the bytes that the kernel counts.
ETHERNET_OVERHEAD: Final = 8 + 4 + 12  # bytes: preamble and start delimiter, FCS, gap between frames
MINIMUM_WIRE_FRAME: Final = 60 + ETHERNET_OVERHEAD  # bytes: a shorter frame is padded

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_RATE: Final = re.compile(r"([0-9]{1,15})([kmg]?)bit", re.IGNORECASE)
_ALLOWED: Final = "use none, or a whole number with bit, kbit, mbit or gbit, from 64kbit to 400gbit, such as 100mbit"

_LARGEST_FRAME: Final = 1518  # bytes: MTU 1500, Ethernet header, a VLAN tag
_BURST_SECONDS: Final = 0.001
_BURST_FRAMES: Final = 2
_QUEUE_SECONDS: Final = 0.020
_QUEUE_FRAMES: Final = 1000


def parse_rate(text: str) -> int | None:
    """Bits per second (decimal units, as ``tc`` has them) for ``text``; None for ``none``: not shaped at all."""
    if text.lower() == "none":
        return None
    match = _RATE.fullmatch(text)
    rate = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if not SLOWEST <= rate <= FASTEST:
        raise ConfigError(f"link rate {text!r} makes no sense: {_ALLOWED}")
    return rate


def format_rate(rate: int | None) -> str:
    """The shortest text that ``parse_rate`` reads as ``rate``."""
    if rate is None:
        return "none"
    for unit in ("g", "m", "k"):
        if rate % _UNITS[unit] == 0:
            return f"{rate // _UNITS[unit]}{unit}bit"
    return f"{rate}bit"


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """Parameters of the kernel's TBF (``net/sched/sch_tbf.c``): rate in bytes/s, bucket and queue in bytes."""

    rate: int
    burst: int
    limit: int

    @classmethod
    def for_line(cls, rate: int) -> TokenBucket:
        """The bucket that makes a line of ``rate`` bit/s.

        Burst: what the line carries in 1 ms. The timer that refills the bucket is some 50 us late, more when the
        host of a virtual machine takes the CPU away; up to 1 ms of that is made good, so the long-run rate is the
        line's. A deeper bucket would let a pause be followed by a burst that no wire can carry. Two frames at least:
        a frame larger than the bucket is dropped.

        Queue: 20 ms, 1000 frames at least, the default queue of a Linux Ethernet interface. It holds more than the
        largest window of one TCP connection in the lab's namespaces (``namespaces``), so a guest that fills the
        line loses nothing here: as on the paper's crossover cable, the window is what limits the sender.
        """
        rate_bytes = rate // 8
        burst = max(int(rate_bytes * _BURST_SECONDS), _BURST_FRAMES * _LARGEST_FRAME)
        queue = max(int(rate_bytes * _QUEUE_SECONDS), _QUEUE_FRAMES * _LARGEST_FRAME)
        return cls(rate_bytes, burst, min(burst + queue, 0xFFFFFFFF))
