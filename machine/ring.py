"""The trap ring: fixed-size requests from the guest to the vmm, in shared memory, slot by slot.

A slot is one cache line of eight 64-bit words. Its state word says who owns the other seven:

========= ========= ===========================================================
state     owner     what happens next
========= ========= ===========================================================
FREE      guest     the guest fills the slot, then stores POSTED
POSTED    vmm       the vmm reads it, handles it, stores result and error, then COMPLETE
COMPLETE  guest     the guest reads result and error, then stores FREE
========= ========= ===========================================================

The guest posts slots in ring order and the vmm handles them in ring order. IN, OUT and HLT are synchronous,
so there is at most one access in flight; a second slot is in use only while the guest runs on from a HLT
that it ended itself (its stack had a frame to send).

**Ordering.** Every publication is a store of the state word after the stores it publishes, and every read
of it a load of the state word before the loads it guards.

* x86-64: stores are seen in program order and loads are not reordered with loads (TSO). CPython executes
  one bytecode's store before the next one's, and each ``memoryview`` item store is one aligned 8-byte
  ``mov``. Both publications (POSTED, COMPLETE) and both reads of them are ordered by the processor alone,
  with any doorbell and on any number of CPUs.
* arm64: plain stores and loads may be reordered, and Python has no fence. With a doorbell that enters the
  kernel (signal, semaphore, eventfd) the ring() after the store and the wait() before the load pass
  through the same kernel lock, which orders them: release on the way in, acquire on the way out. That
  covers a reader that was asleep. A reader that finds the state word changed *without* having slept has
  no such order, so on arm64 all processes must share one CPU, where program order is all there is;
  the spin doorbell, whose readers do not sleep, is refused (``machine.doorbell.check_sound``).

The descriptor rings in guest memory follow the same rule: OWN is stored last and read first.
"""

from __future__ import annotations

from typing import Final

from machine.errors import LayoutError

__all__ = [
    "COMPLETE",
    "ERROR",
    "FREE",
    "KEY",
    "KIND_HLT",
    "KIND_IN",
    "KIND_OUT",
    "OK",
    "PORT_SHIFT",
    "POSTED",
    "REFUSED",
    "RESULT",
    "RING_WORDS",
    "SEQUENCE",
    "SLOTS",
    "SLOT_WORDS",
    "STATE",
    "VALUE",
    "WIDTHS",
    "is_valid_key",
    "pack_key",
    "slot_base",
    "unpack_key",
]

SLOTS: Final = 8  # a power of two
SLOT_WORDS: Final = 8  # one cache line
RING_WORDS: Final = SLOTS * SLOT_WORDS

# word offsets within a slot
STATE: Final = 0
KEY: Final = 1  # kind, width and port in one word: what the vmm dispatches on
VALUE: Final = 2  # OUT: the value written
RESULT: Final = 3  # IN: the value read
ERROR: Final = 4  # OK or REFUSED
SEQUENCE: Final = 5  # grows by one per request

FREE: Final = 0
POSTED: Final = 1
COMPLETE: Final = 2

OK: Final = 0
REFUSED: Final = 1  # the request itself was malformed; the access did not happen

KIND_IN: Final = 1
KIND_OUT: Final = 2
KIND_HLT: Final = 3

WIDTHS: Final = (1, 2, 4)  # of a port access, in bytes
PORT_SHIFT: Final = 16  # of the port in a key, which is linear in it


def pack_key(kind: int, width: int, port: int) -> int:
    """Kind in bits 0-7, width in bytes in bits 8-15, port in bits 16-31."""
    return kind | width << 8 | port << PORT_SHIFT


def unpack_key(key: int) -> tuple[int, int, int]:
    """(kind, width, port) of a key."""
    return key & 0xFF, key >> 8 & 0xFF, key >> PORT_SHIFT & 0xFFFF


def is_valid_key(key: int) -> bool:
    """Whether a key from the guest is one that :func:`pack_key` can have made."""
    kind, width, _port = unpack_key(key)
    if key >> 32:
        return False
    return kind == KIND_HLT or (kind in (KIND_IN, KIND_OUT) and width in WIDTHS)


def slot_base(index: int, words: memoryview) -> int:
    """First word of slot ``index`` (modulo the ring) in the gate page ``words`` (format "Q")."""
    if words.format != "Q" or len(words) < RING_WORDS:
        raise LayoutError(f"a trap ring needs {RING_WORDS} words of format Q")
    return (index % SLOTS) * SLOT_WORDS
