"""The counters of a running stack: names, units, and the one process that may write each.

Each process has a page of its own (``machine.layout``), an array of 64-bit words that it alone writes and
that anyone who maps it may read at any time: an aligned 64-bit load is never torn on the machines Python runs
on. Readers see monotonic values; they take differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["COUNTERS", "GUEST", "VMAPP", "VMM", "Counter", "indices", "read_all"]

GUEST: Final = "guest"
VMM: Final = "vmm"
VMAPP: Final = "vmapp"


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter: ``name`` (its unit in the name unless it is a plain count), writer, and what it counts."""

    name: str
    writer: str
    meaning: str


COUNTERS: Final[tuple[Counter, ...]] = (
    Counter("hlt", GUEST, "HLT instructions the guest executed"),
    Counter("irqs_delivered", GUEST, "interrupts the guest's handler took"),
    Counter("irqs_by_signal", GUEST, "of these, those that arrived while the guest was running, by signal"),
    Counter("guest_tap_reads", GUEST, "frames read from the guest's network stack"),
    Counter("guest_tap_writes", GUEST, "frames handed to the guest's network stack"),
    Counter("guest_tx_ring_full", GUEST, "times the guest stopped reading its stack: no free TMD"),
    Counter("guest_tx_too_long", GUEST, "frames of the guest's stack longer than its card can carry; dropped"),
    Counter("guest_rx_errors", GUEST, "frames the guest's driver refused"),
    Counter("rap_stores", GUEST, "RAP accesses that were plain memory accesses (no trap)"),
    Counter("idle_ns", GUEST, "time from HLT to the event that ended it"),
    Counter("io_unclaimed", VMM, "port accesses that no device claims; they read all ones"),
    Counter("bad_requests", VMM, "trap requests that were malformed and answered with an error"),
    Counter("switches_for_io", VMM, "world switches for a port access"),
    Counter("switches_for_hlt", VMM, "world switches because the guest is idle"),
    Counter("switches_for_irq", VMM, "world switches to hand a host interrupt over"),
    Counter("switches_for_tick", VMM, "world switches forced by the host timer"),
    Counter("switches_for_send", VMM, "world switches forced by queued packets (send combining)"),
    Counter("switches_for_dma", VMM, "world switches to map or unmap memory of a foreign guest"),
    Counter("sends_combined", VMM, "transmit requests that were queued and not switched for at once"),
    Counter("irqs_raised", VMM, "virtual interrupts the 8259 pair handed to the guest's CPU"),
    Counter("host_irqs", VMM, "host interrupts that arrived in the VMM world"),
    Counter("tx_frames", VMAPP, "frames the Lance sent"),
    Counter("tx_bytes", VMAPP, "their bytes, without FCS"),
    Counter("tx_errors", VMAPP, "frames the Lance gave up on (bad chain, bad address, no carrier)"),
    Counter("rx_frames", VMAPP, "frames the Lance put into guest memory"),
    Counter("rx_bytes", VMAPP, "their bytes, without FCS"),
    Counter("rx_filtered", VMAPP, "frames for other stations"),
    Counter("rx_errors", VMAPP, "frames received with an error (overflow, bad address, runt)"),
    Counter("rx_missed", VMAPP, "frames lost because no receive descriptor was free (MISS)"),
    Counter("memory_errors", VMAPP, "DMA that lay outside guest memory (MERR)"),
    Counter("tap_writes", VMAPP, "write() calls on the host TAP"),
    Counter("tap_reads", VMAPP, "read() calls on the host TAP that returned a frame"),
    Counter("tap_empty_reads", VMAPP, "read() calls on the host TAP that found nothing"),
    Counter("tap_write_errors", VMAPP, "write() calls that the kernel refused"),
    Counter("selects", VMAPP, "select() calls"),
    Counter("tx_polls", VMAPP, "times the chip looked for a TMD without being told to"),
    Counter("host_world_ns", VMAPP, "time in the host world, select() for an idle guest included"),
    Counter("select_ns", VMAPP, "time blocked in select() for an idle guest"),
)


def indices(writer: str) -> dict[str, int]:
    """Counter name -> word index within the page of ``writer``."""
    return {c.name: i for i, c in enumerate(c for c in COUNTERS if c.writer == writer)}


def read_all(pages: dict[str, memoryview]) -> Iterator[tuple[str, int]]:
    """(name, value) of every counter, in table order; ``pages``: writer -> its page as format "Q"."""
    where = {writer: indices(writer) for writer in pages}
    for counter in COUNTERS:
        if counter.writer in pages:
            yield counter.name, pages[counter.writer][where[counter.writer][counter.name]]
