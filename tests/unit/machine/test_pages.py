"""Shared pages: memory objects without a name, the layout of words, counters, guest memory's windows."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import layout, world
from machine.counters import COUNTERS, GUEST, VMAPP, VMM, indices, read_all
from machine.errors import LayoutError, SetupError
from machine.lance.state import STATE_WORDS
from machine.memory import GuestMemory
from machine.shm import attach, create

SIZE = 8192
ANY_INTEGER = st.integers(-(1 << 70), 1 << 70)


@pytest.fixture
def shared():
    """A descriptor of a shared object of two pages."""
    fd = create("test", SIZE)
    yield fd
    os.close(fd)


def test_shared_memory_is_shared_and_zero(shared: int):
    """Two mappings of one descriptor are the same bytes, and all of them begin as 0."""
    one, other = attach(shared, SIZE), attach(shared, SIZE)
    assert bytes(one) == bytes(SIZE)
    one.cast("Q")[5] = 0x0123456789ABCDEF
    assert other.cast("Q")[5] == 0x0123456789ABCDEF


def test_shared_memory_crosses_fork(shared: int):
    """What a child writes, the parent reads."""
    page = attach(shared, SIZE)
    pid = os.fork()
    if not pid:
        page[7] = 42
        os._exit(0)
    os.waitpid(pid, 0)
    assert page[7] == 42


def test_shared_memory_leaves_no_name(shared: int):
    """The object's name is gone before create returns."""
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("worldswitch-test-")]
    assert "(deleted)" in os.readlink(f"/proc/self/fd/{shared}")


def test_shared_memory_is_private_and_closes_on_exec(shared: int):
    """Nobody else may open it, and no program inherits it by accident."""
    assert os.fstat(shared).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(shared)


def test_attaching_more_than_there_is(shared: int):
    """A page that is too small is refused, and not found out by SIGBUS."""
    with pytest.raises(LayoutError, match="holds 8192 bytes, expected at least 8193"):
        attach(shared, SIZE + 1)


def test_an_impossible_size():
    """What the kernel will not give is a SetupError, and leaves no name behind."""
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(SetupError, match="shared memory"):
        create("test", -1)
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "-test-" in name}


def test_the_layout_fits_its_pages():
    """Every word that is named lies in its page, and tables do not overlap."""
    assert max(layout.INTERRUPT_MAILBOX, layout.RAP_PORT, layout.RAP_STORE) < layout.GATE_BYTES // 8
    record = [value for name, value in vars(world).items() if name in world.__all__ and isinstance(value, int)]
    assert world.FRAMES_WAIT < layout.SLEEPS_VMAPP < layout.SLEEPS_VMM_IN_WORLD < layout.LANCE_OFFSET // 8
    assert record
    assert layout.LANCE_OFFSET + 4 * STATE_WORDS <= layout.WORLD_BYTES
    tables = [
        (0, max(len(indices(writer)) for writer in (GUEST, VMM, VMAPP))),
        (layout.PORT_TABLE, layout.PORT_SLOTS * layout.PORT_WORDS),
        (layout.SWITCHES_THERE, layout.SWITCH_SAMPLE_COUNT),
        (layout.SWITCHES_BACK, layout.SWITCH_SAMPLE_COUNT),
    ]
    for (first, size), (following, _) in pairwise(tables):
        assert first + size <= following
    assert sum(tables[-1]) <= layout.COUNTER_PAGE_BYTES // 8


def test_the_world_record_has_a_word_for_each_name():
    """No two fields of the world-switch record share a word."""
    names = ("WORLD", "REASON", "KEY", "VALUE", "RESULT", "ENTERED_NS", "LEFT_NS", "LINE", "SLOT", "RESUMED")
    words = [getattr(world, name) for name in (*names, "NOTIFICATION", "FRAMES_WAIT")]
    assert len(set(words)) == len(words)
    assert world.FRAMES_WAIT // 8 != world.WORLD // 8, "the interrupt handler's word has a line of its own"


def test_every_switch_reason_has_a_counter():
    """The vmm counts each reason by itself."""
    assert set(world.REASONS.values()) <= set(indices(VMM))
    assert len(set(world.REASONS.values())) == len(world.REASONS)


def test_counters_have_one_writer_and_one_word():
    """Names are unique over all pages; each page numbers its own from 0."""
    names = [counter.name for counter in COUNTERS]
    assert len(set(names)) == len(names)
    for writer in (GUEST, VMM, VMAPP):
        assert sorted(indices(writer).values()) == list(range(len(indices(writer))))
    assert sum(len(indices(writer)) for writer in (GUEST, VMM, VMAPP)) == len(names)
    assert all(counter.meaning for counter in COUNTERS)


def test_read_all_reads_the_pages_there_are():
    """Table order, the right page for each counter, and nothing of a page that is missing."""
    pages = {writer: memoryview(bytearray(layout.PAGE)).cast("Q") for writer in (GUEST, VMAPP)}
    for writer, page in pages.items():
        for name, index in indices(writer).items():
            page[index] = len(name)
    read = dict(read_all(pages))
    assert list(read) == [counter.name for counter in COUNTERS if counter.writer != VMM]
    assert all(value == len(name) for name, value in read.items())


# -- guest memory as devices see it -------------------------------------------------------------------------


@given(ANY_INTEGER | st.integers(-8, 5000), ANY_INTEGER | st.integers(-8, 5000))
def test_a_window_is_exact_or_none(address: int, length: int):
    """Any two integers: exactly those bytes of RAM, or None when any is outside or there are none."""
    ram = memoryview(bytearray(4096))
    window = GuestMemory(ram).window(address, length)
    if length > 0 and address >= 0 and address + length <= 4096:
        assert window is not None
        window[0] = 1
        assert (len(window), ram[address]) == (length, 1)
    else:
        assert window is None


@given(
    st.lists(st.tuples(st.integers(0, (1 << 32) - 1) | st.integers(4000, 9000), st.integers(1, 64)), max_size=6),
    st.integers(4000, 9000) | ANY_INTEGER,
    st.integers(-2, 80),
)
def test_windows_of_a_foreign_guest(maps: list[tuple[int, int]], address: int, length: int):
    """With any maps on top: the newest that holds all the bytes answers, and never a byte beyond it."""
    memory = GuestMemory(memoryview(bytearray(4096)))
    backings = []
    for number, (base, size) in enumerate(maps):
        backing = memoryview(bytearray([number]) * size)
        memory.map(base, backing)
        backings.append((base, size, number))
    window = memory.window(address, length)
    if window is None or address + length <= 4096:
        return
    assert len(window) == length
    assert address + length <= 1 << 32
    holders = [number for base, size, number in backings if base <= address and address + length <= base + size]
    assert set(window) == {holders[-1]}


def test_unmap_takes_back_what_lies_within():
    """Windows wholly inside the range go; RAM and the others stay; the generation tells of each change."""
    memory = GuestMemory(memoryview(bytearray(4096)))
    memory.map(0x10000, memoryview(bytearray(64)))
    memory.map(0x20000, memoryview(bytearray(64)))
    seen = memory.generation
    assert memory.unmap(0x10000, 63) == 0
    assert memory.generation == seen
    assert memory.unmap(0x0F000, 0x2000) == 64
    assert memory.generation == seen + 1
    assert memory.window(0x10000, 4) is None
    assert memory.window(0x20000, 4) is not None
    assert memory.window(0, 4) is not None
