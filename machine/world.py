"""The world-switch record: what passes between vmm and vmapp when the processor changes worlds.

``WORLD`` names the world that runs and thereby the owner of every other word here and of the Lance's state:
the vmm stores HOST_WORLD after it has filled the record, vmapp stores VMM_WORLD after it has answered. The
ordering argument is the trap ring's (``machine.ring``), with ``WORLD`` as the state word.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ENTERED_NS",
    "EVENTS",
    "HOST_WORLD",
    "KEY",
    "LEFT_NS",
    "REASON",
    "REASONS",
    "REASON_HLT",
    "REASON_IO",
    "REASON_IRQ",
    "REASON_SEND",
    "REASON_TICK",
    "RESULT",
    "VALUE",
    "VMM_WORLD",
    "WORLD",
]

VMM_WORLD: Final = 0
HOST_WORLD: Final = 1

WORLD: Final = 0
REASON: Final = 1
KEY: Final = 2  # REASON_IO: the access, as in the trap ring
VALUE: Final = 3  # REASON_IO: the value written
RESULT: Final = 4  # REASON_IO: the value read
EVENTS: Final = 5  # vmapp -> vmm: bit 0, physical work is left over; switch again soon
ENTERED_NS: Final = 6  # CLOCK_MONOTONIC at which vmapp took over
LEFT_NS: Final = 7  # CLOCK_MONOTONIC at which vmapp gave back

REASON_IO: Final = 1  # a port access that vmapp must carry out
REASON_HLT: Final = 2  # the guest is idle: block in select()
REASON_IRQ: Final = 3  # a host interrupt arrived in the VMM world
REASON_TICK: Final = 4  # the host timer
REASON_SEND: Final = 5  # queued packets must leave

REASONS: Final = {
    REASON_IO: "switches_for_io",
    REASON_HLT: "switches_for_hlt",
    REASON_IRQ: "switches_for_irq",
    REASON_TICK: "switches_for_tick",
    REASON_SEND: "switches_for_send",
}
