"""The trace buffers: what each process did when, one record an event, in shared memory.

Each process has a buffer that it alone writes (``Tracer``) and the collector reads (``TraceReader``). A record is
four 64-bit words: tag, begin (CLOCK_MONOTONIC, ns), duration (ns), argument. The tag is the record's number and
its event code; a record is valid when its tag is the one that its place must have. Old records are overwritten.

The writer says first which record it is about to write (word CLAIMED), takes the old tag away, and stores the new
tag last; so a reader that meets a record half written, or overwritten while it was being copied, sees a tag that
does not fit. The order is the trap ring's (``machine.ring``): program order on x86-64; on arm64 a collector reads
what was written before the process answered that tracing is off. A signal handler may trace between any two
stores of a record: it gets another number, and both records are whole.

Nothing of this runs while tracing is off: ``machine.seams`` says how it gets into the processes.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from machine.errors import LayoutError

__all__ = [
    "ACCESS",
    "CAPACITY",
    "DELIVER",
    "ENGINE",
    "EVENTS",
    "GUEST_READ",
    "GUEST_WRITE",
    "HALT",
    "HLT",
    "HOST_WORLD",
    "IDLE",
    "INTERRUPT",
    "MOST_RECORDS",
    "POLL",
    "RECEIVE",
    "SELECT",
    "SLEEP",
    "SWITCH",
    "TAP_READ",
    "TAP_WRITE",
    "TRACE_BYTES",
    "TRAP",
    "VMM_TRAP",
    "Buffer",
    "Event",
    "Note",
    "Record",
    "TraceReader",
    "make_note",
    "trap_argument",
]

CAPACITY: Final = 1 << 18  # records: two seconds and more of the heaviest load
_MASK: Final = CAPACITY - 1
_WORDS: Final = 4
_FIRST: Final = 8  # word at which the records begin
_CLAIMED: Final = 0
TRACE_BYTES: Final = 8 * (_FIRST + CAPACITY * _WORDS)
MOST_RECORDS: Final = 16 * CAPACITY  # what a collector keeps of one process: 128 MB, half a minute of the heaviest load
_NEAR: Final = 16  # so many records may be unfinished, or claimed out of order: more than signals can nest

_RECORD: Final = struct.Struct("=4Q")
_RECORD_BYTES: Final = 8 * _WORDS
_LOW: Final = 0xFFFFFFFF


class Event(NamedTuple):
    """What a code means: whose time it is, what to call it, and what its argument says."""

    role: str
    name: str
    argument: str


TRAP: Final = 1
INTERRUPT: Final = 2
HLT: Final = 3
GUEST_READ: Final = 4
GUEST_WRITE: Final = 5
VMM_TRAP: Final = 16
SWITCH: Final = 17
IDLE: Final = 18
HALT: Final = 19
DELIVER: Final = 20
HOST_WORLD: Final = 32
ACCESS: Final = 33
ENGINE: Final = 34
POLL: Final = 35
RECEIVE: Final = 36
TAP_WRITE: Final = 37
TAP_READ: Final = 38
SELECT: Final = 39
SLEEP: Final = 40

EVENTS: Final = {
    TRAP: Event("guest", "trap", "trap"),  # from the instruction to the next one
    INTERRUPT: Event("guest", "interrupt handler", "vector"),
    HLT: Event("guest", "HLT", ""),
    GUEST_READ: Event("guest", "driver: frame from the stack", "frames"),
    GUEST_WRITE: Event("guest", "driver: frame to the stack", "bytes"),
    VMM_TRAP: Event("vmm", "trap", "trap"),
    SWITCH: Event("vmm", "world switch", "reason"),  # there and back, the host world included
    IDLE: Event("vmm", "guest idle, host world", ""),
    HALT: Event("vmm", "guest idle, halted", ""),
    DELIVER: Event("vmm", "raise virtual IRQ", ""),
    HOST_WORLD: Event("vmapp", "host world", "reason"),  # in the vmm's buffer: it has both times from the record
    ACCESS: Event("vmapp", "Lance access", "key"),
    ENGINE: Event("vmapp", "Lance effects", "effect"),
    POLL: Event("vmapp", "Lance looks for a TMD", "sent"),
    RECEIVE: Event("vmapp", "Lance receive", "frames"),
    TAP_WRITE: Event("vmapp", "write() on the TAP", "bytes"),
    TAP_READ: Event("vmapp", "read() on the TAP", "bytes"),
    SELECT: Event("vmapp", "select()", "ready"),
    SLEEP: Event("vmapp", "select(), blocked", "ready"),
}

Note = Callable[[int, int, int, int], None]
"""note(begin_ns, end_ns, code, argument) writes one record; the argument is any whole number, kept modulo 2**64."""

_LONG: Final = 0xFFFFFFFFFFFFFFFF


class Record(NamedTuple):
    """One event: times in ns, ``end`` exclusive."""

    begin: int
    end: int
    code: int
    argument: int


def trap_argument(key: int, sequence: int) -> int:
    """What names a trap in both processes that record it: its key, and the low half of its sequence number."""
    return key & _LOW | (sequence & _LOW) << 32


def _check(words: memoryview) -> None:
    if words.format != "Q" or words.nbytes < TRACE_BYTES:
        raise LayoutError(f"a trace buffer needs {TRACE_BYTES} bytes as format Q")


def make_note(words: memoryview, lease: list[int], expired: Callable[[], None]) -> Note:
    """The function that writes records into the buffer ``words``; made once per process, as it has the numbering.

    A record that ends after CLOCK_MONOTONIC was ``lease[0]`` ns calls ``expired``.
    """
    _check(words)
    take = itertools.count(words[_CLAIMED] + 1).__next__  # one C call: no signal handler gets the same number

    def note(begin: int, end: int, code: int, argument: int) -> None:
        number = take()
        at = _FIRST + (number & _MASK) * _WORDS
        words[_CLAIMED] = number
        words[at] = 0
        words[at + 1] = begin
        words[at + 2] = end - begin if end > begin else 0
        words[at + 3] = argument & _LONG
        words[at] = number << 8 | code
        if end > lease[0]:
            expired()

    return note


class Buffer(Protocol):
    """A trace buffer as its collector sees it (``machine.shm.PageReader``)."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """A copy of ``length`` bytes from ``offset`` on."""


class TraceReader:
    """Reads a buffer, from the moment of its making on. ``lost``: records that were overwritten before a drain.

    The writer is not trusted: whatever it says of how far it is, no more than ``MOST_RECORDS`` are kept.
    """

    def __init__(self, buffer: Buffer) -> None:
        if buffer.size < TRACE_BYTES:
            raise LayoutError(f"a trace buffer needs {TRACE_BYTES} bytes")
        self._buffer = buffer
        self._next = self._claimed() + 1
        self._chunks: list[tuple[int, bytes]] = []  # number of the first record, and the records
        self._kept = 0
        self.lost = 0

    def _claimed(self) -> int:
        """The number of the record that the writer began last."""
        return int.from_bytes(self._buffer.read(8 * _CLAIMED, 8), sys.byteorder)

    def drain(self, *, last: bool = False) -> None:
        """Copies what is new, at the cost of the copy. ``last``: the writer has stopped, so all of it."""
        claimed = self._claimed()
        end = claimed + 1 if last else claimed + 1 - _NEAR
        begin = max(self._next, claimed + 1 + _NEAR - CAPACITY)
        if end <= self._next:
            return
        first = min(end, max(begin, end - (MOST_RECORDS - self._kept)))
        self.lost += first - self._next
        self._next = end
        self._kept += end - first
        while first < end:
            place = first & _MASK
            count = min(end - first, CAPACITY - place)
            start = 8 * _FIRST + place * _RECORD_BYTES
            self._chunks.append((first, self._buffer.read(start, count * _RECORD_BYTES)))
            first += count

    def records(self) -> Iterator[Record]:
        """What the drains have copied, in the order of writing, that is of ending; torn records count as lost."""
        chunks, self._chunks = self._chunks, []
        for number, chunk in chunks:
            for expected, (tag, begin, duration, argument) in enumerate(_RECORD.iter_unpack(chunk), number):
                if tag >> 8 == expected & _LONG >> 8:
                    yield Record(begin, begin + duration, tag & 0xFF, argument)
                else:
                    self.lost += 1
