"""The paper's Tables 1 and 2 (sections 3.2 and 3.3), beside which ``bench breakdown`` prints its own figures.

VM/PC-733, TCP transmit, 4096-byte operations. The tables give some rows as shares of VMM time; here all are shares of
the total, that is, multiplied by the VMM's share of it (77.3% in Table 1, 71.5% in Table 2).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["TABLE_1", "TABLE_2", "Figure"]

_VMM_1: Final = 0.773
_VMM_2: Final = 0.715


class Figure(NamedTuple):
    """A share of the total time (0 to 1), and an average in us where the table has one."""

    share: float
    average_us: float | None = None


TABLE_1: Final = MappingProxyType(
    {
        "switching": Figure(0.268 * _VMM_1, 7.45),
        "rap": Figure(0.081 * _VMM_1, 0.74),
        "in_vmm": Figure(0.083 * _VMM_1, 1.36),
        "irq_delivery": Figure(0.046 * _VMM_1),
        "host_irqs": Figure(0.034),
        "tap_write": Figure(0.087, 13.8),
        "tap_read": Figure(0.008, 1.8),
        "lance_transmit": Figure(0.033, 5.2),
        "lance_status": Figure(0.040, 3.1),
    }
)

TABLE_2: Final = MappingProxyType(
    {
        "switching": Figure(0.005 * _VMM_2),
        "pic": Figure(0.025 * _VMM_2, 0.78),
        "status": Figure(0.023 * _VMM_2, 0.91),
        "irq_delivery": Figure(0.025 * _VMM_2),
        "tap_write": Figure(0.179, 22.7),
        "tap_read": Figure(0.025, 22.7),
        "lance_transmit": Figure(0.018, 3.0),
        "idle": Figure(0.304 * _VMM_2),
    }
)
