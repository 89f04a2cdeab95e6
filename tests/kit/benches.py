"""What tests of benchmarks share: the counters of a packet whose cost the paper states."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["LONE_PACKET"]

# Linux 2.2's driver in mode 2.0 sends one packet (paper, section 4.3): 12 accesses to the Lance, 5 to the 8259A pair.
LONE_PACKET: Final = MappingProxyType(
    {
        "tx_frames": 1,
        "rx_frames": 0,
        "io_in": 4,
        "io_out": 13,
        "pic_accesses": 5,
        "rap_stores": 0,
        "hlt": 1,
        "world_switches": 6,
        "switches_for_io": 5,
        "switches_for_send": 0,
        "irqs_raised": 1,
    }
)
