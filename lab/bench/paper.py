"""What the paper measured: the figures that benchmarks print beside their own, always labelled as the paper's.

Sugerman, Venkitachalam, Lim, USENIX ATC 2001. Its machine: a 733 MHz Pentium III, 100 Mb/s Ethernet.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = [
    "CPU_BOUND_IDLE",
    "IDLE_SHARES",
    "IRQS_PER_PACKET_SENT",
    "OPERATION_BYTES",
    "PIC_ACCESSES_PER_IRQ",
    "PORT_ACCESSES_PER_PACKET_SENT",
    "SWEEP_FINDINGS",
    "SWEEP_SIZES",
    "THROUGHPUT_MBPS",
]

OPERATION_BYTES: Final = 4096  # sections 3.2 and 3.5: bytes per send()
SWEEP_SIZES: Final = tuple(512 << step for step in range(8))  # section 3.4, Figure 6: 512 to 65536

# Section 3.2, transmit; only version 2.0's is a number. The others "saturate the link" (sections 3.4 and 6).
THROUGHPUT_MBPS: Final = MappingProxyType(
    {"native": "link", "2.0": "64", "ports": "link", "combining": "link", "optimised": "link"}
)

IDLE_SHARES: Final = MappingProxyType(  # Table 3, section 3.5: transmit, HLT in the VMM
    {"native": 0.86, "optimised": 0.217, "without notification": 0.179, "ports": 0.02, "2.0": 0.0}
)
CPU_BOUND_IDLE: Final = 0.03  # below this share of idle time we call a machine CPU-bound; our limit, not the paper's

PORT_ACCESSES_PER_PACKET_SENT: Final = 12  # section 4.3, Linux 2.2's driver
IRQS_PER_PACKET_SENT: Final = 1  # section 4.3
PIC_ACCESSES_PER_IRQ: Final = 5  # section 4.1

SWEEP_FINDINGS: Final = (  # section 3.4; the values of Figure 6 are in its picture only
    "native: fills the link at every size, on the fast and on the slow machine",
    "2.0, fast machine: CPU-bound, 64 Mb/s at 4096 bytes",
    "optimised, fast machine: equals native",
    "2.0, slow machine (350 MHz): about half of optimised there",
    "optimised, slow machine: CPU-bound, as quick as 2.0 on the fast machine",
)
