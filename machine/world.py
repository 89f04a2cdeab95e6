"""The world-switch record: what passes between vmm and vmapp when the processor changes worlds.

``WORLD`` names the world that runs and thereby the owner of every other word here and of the Lance's state:
the vmm stores HOST_WORLD after it has filled the record, vmapp stores VMM_WORLD after it has answered. The
ordering argument is the trap ring's (``machine.ring``), with ``WORLD`` as the state word.

**Resuming the guest.** With a port access the vmm lends vmapp the guest's trap slot (``SLOT``). When the access
has left the Lance's INTA# as it was (``LINE``), the vmm would have nothing to do but to pass the result on and
resume the guest. vmapp then does that in its stead: it returns to the VMM world, completes the slot, wakes the
guest, and lets the vmm sleep until the next trap. Three changes of process instead of four; the vmm learns of
it from ``RESUMED``.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ENTERED_NS",
    "FRAMES_HELD",
    "FRAMES_WAIT",
    "HOST_WORLD",
    "KEY",
    "LEFT_NS",
    "LINE",
    "NEXT",
    "NOTIFICATION",
    "NO_SLOT",
    "REASON",
    "REASONS",
    "REASON_DMA",
    "REASON_HLT",
    "REASON_IO",
    "REASON_IRQ",
    "REASON_SEND",
    "REASON_TICK",
    "RESULT",
    "RESUMED",
    "SLOT",
    "VALUE",
    "VMM_WORLD",
    "WORLD",
]

VMM_WORLD: Final = 0
HOST_WORLD: Final = 1

WORLD: Final = 0
REASON: Final = 1
KEY: Final = 2  # REASON_IO: the access, as in the trap ring; REASON_SEND: the effect bits to carry out
VALUE: Final = 3  # REASON_IO: the value written
RESULT: Final = 4  # REASON_IO: the value read
ENTERED_NS: Final = 5  # CLOCK_MONOTONIC at which vmapp took over
LEFT_NS: Final = 6  # CLOCK_MONOTONIC at which vmapp gave back
LINE: Final = 7  # level of INTA# that the interrupt controller knows of
SLOT: Final = 8  # first word of the trap slot lent to vmapp, or NO_SLOT
RESUMED: Final = 9  # vmapp -> vmm: 1, the lent slot is complete and the guest runs

NOTIFICATION: Final = 10  # 1: FRAMES_WAIT is kept, vmapp need not ask the kernel (paper section 3.3.3)
NEXT: Final = 11  # first word of the trap slot that the guest posts next: vmapp does not linger when it is posted
FRAMES_HELD: Final = 12  # vmapp: 1 while frames wait in the TAP for a free RMD, or for the next burst
FRAMES_WAIT: Final = 16  # the vmm's interrupt handler stores 1 at any time, vmapp stores 0 before it reads the TAP

NO_SLOT: Final = 0xFFFF

REASON_IO: Final = 1  # a port access that vmapp must carry out
REASON_HLT: Final = 2  # the guest is idle: block in select()
REASON_IRQ: Final = 3  # a host interrupt arrived in the VMM world
REASON_TICK: Final = 4  # the host timer
REASON_SEND: Final = 5  # an access that the vmm has handled asks for physical work: packets to send, INIT
REASON_DMA: Final = 6  # a foreign guest's memory map has changed (machine.dma); RESULT is an errno, or 0

REASONS: Final = {
    REASON_IO: "switches_for_io",
    REASON_HLT: "switches_for_hlt",
    REASON_IRQ: "switches_for_irq",
    REASON_TICK: "switches_for_tick",
    REASON_SEND: "switches_for_send",
    REASON_DMA: "switches_for_dma",
}
