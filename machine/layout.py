"""The shared-memory objects of a stack and the words in them: one definition, read by every process.

======== ====================== ============================== =========================================
object   mapped by              written by                     holds
======== ====================== ============================== =========================================
ram      guest, vmapp           guest, vmapp (DMA)             guest physical memory, address 0 first
gate     guest, vmm, vmapp      word by word, see below        trap ring, interrupt mailbox, RAP store
world    vmm, vmapp             the world that runs            world-switch record, Lance state
counters supervisor and writer  one process per page           ``machine.counters``, port statistics
trace    collector and writer   one process per object         ``machine.trace``, only while a trace is recorded
======== ====================== ============================== =========================================

All words are 64 bits, little-endian (format "Q"), except the Lance's state, which is 32 bits ("I").
Cache lines (64 bytes) are never shared between two writers that may run at the same time.
"""

from __future__ import annotations

from typing import Final

from machine.lance.state import STATE_WORDS

__all__ = [
    "COUNTER_PAGE_BYTES",
    "GATE_BYTES",
    "INTERRUPT_MAILBOX",
    "LANCE_OFFSET",
    "PAGE",
    "PORT_SLOTS",
    "PORT_TABLE",
    "PORT_WORDS",
    "RAP_PORT",
    "RAP_STORE",
    "SLEEPS_GUEST",
    "SLEEPS_VMAPP",
    "SLEEPS_VMM",
    "SLEEPS_VMM_IN_WORLD",
    "SWITCHES_BACK",
    "SWITCHES_THERE",
    "SWITCH_SAMPLE_COUNT",
    "TRAP_CANCEL",
    "TROUBLE",
    "TROUBLE_WORDS",
    "WORLD_BYTES",
]

PAGE: Final = 4096

# gate: words 0..63 are the trap ring (machine.ring); then one line for each writer.
TRAP_CANCEL: Final = 64  # guest: sequence number of the last HLT that it ended by itself
RAP_STORE: Final = 65  # guest: RAP as last stored, where RAP is plain memory (the vmm, when it makes it so)
SLEEPS_GUEST: Final = 66  # guest: 1 while it sleeps on a spin doorbell
SLEEPS_VMM: Final = 72  # vmm: the same, for the guest to read
RAP_PORT: Final = 73  # vmm: width << 16 | port of RAP while its accesses are plain memory accesses, else 0
INTERRUPT_MAILBOX: Final = 80  # 0: the vmm may post; else vector + 1, and the guest takes it and stores 0
GATE_BYTES: Final = PAGE

# world: words 0..23 are the world-switch record (machine.world).
SLEEPS_VMAPP: Final = 32  # vmapp: 1 while it sleeps on a spin doorbell
SLEEPS_VMM_IN_WORLD: Final = 40  # vmm: the same, for vmapp to read
LANCE_OFFSET: Final = 1024  # bytes from the start of the object
WORLD_BYTES: Final = PAGE

# counters: one page per process; the vmm's is followed by its port table and its last world-switch times.
COUNTER_PAGE_BYTES: Final = 4 * PAGE
TROUBLE: Final = 448  # word index of the text of machine.trouble, in UTF-8, in the vmm's page; far behind the counters
TROUBLE_WORDS: Final = 32
PORT_TABLE: Final = PAGE // 8  # word index of the first entry
PORT_WORDS: Final = 4  # port + 1 (0: entry free), reads, writes, nanoseconds
PORT_SLOTS: Final = PAGE // 8 // PORT_WORDS
SWITCH_SAMPLE_COUNT: Final = PAGE // 8  # a power of two
SWITCHES_THERE: Final = 2 * PAGE // 8  # word index of the last times from the vmm to vmapp, ns
SWITCHES_BACK: Final = 3 * PAGE // 8  # and of those from vmapp to the vmm; not where vmapp resumed the guest

assert TROUBLE + TROUBLE_WORDS <= PORT_TABLE
assert LANCE_OFFSET + 4 * STATE_WORDS <= WORLD_BYTES
