"""The dispatch table's size: a guest that sends every key there is cannot make the vmm grow."""

from __future__ import annotations

from machine.layout import COUNTER_PAGE_BYTES
from machine.portmap import PortMap
from machine.ring import KIND_IN, pack_key
from vmm.dispatch import Dispatcher

KEYS = 5000
MOST = 1024


def test_the_dispatch_table_stays_small():
    """However many keys a guest uses, the table is bounded, stays the same object, and every access is answered."""
    unclaimed = []
    counters = memoryview(bytearray(COUNTER_PAGE_BYTES)).cast("Q")
    dispatcher = Dispatcher(PortMap(), counters, lambda: unclaimed.append(1))
    table = dispatcher.bound
    for port in range(KEYS):
        assert dispatcher.trap(pack_key(KIND_IN, 1, port), 0) == 0xFF
        assert len(table) <= MOST
    assert dispatcher.bound is table
    assert len(unclaimed) == KEYS
