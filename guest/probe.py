"""What a trap costs, felt where it counts: in the guest, around the instruction (``worldswitch bench handoff``)."""

from __future__ import annotations

import array
import time
from typing import Final

from guest.cpu import Cpu
from machine.ports import LANCE_DEFAULT_BASE, PIC_MASTER_DATA

__all__ = ["probe"]

_RDP: Final = LANCE_DEFAULT_BASE + 0x10


def probe(cpu: Cpu, rounds: int) -> dict[str, bytes]:
    """Round trips in ns (arrays of "Q" as bytes) of an IN that the vmm answers and of one that needs vmapp.

    The vmm's is the interrupt mask register; vmapp's is CSR0, which every mode without ``ports`` switches for.
    """
    cpu.write_port(LANCE_DEFAULT_BASE + 0x12, 2, 0)  # RAP: the next RDP accesses read CSR0
    return {
        "vmm": _time_reads(cpu, PIC_MASTER_DATA, 1, rounds),
        "vmapp": _time_reads(cpu, _RDP, 2, rounds),
    }


def _time_reads(cpu: Cpu, port: int, width: int, rounds: int) -> bytes:
    clock = time.monotonic_ns
    times = array.array("Q", bytes(8 * rounds))
    for i in range(rounds):
        started = clock()
        cpu.read_port(port, width)
        times[i] = clock() - started
    return times.tobytes()
