"""Runs of bytes over any number of windows, against a model that knows each byte alone."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.dma import CLEAR, MAP, MOST_FILES, MOST_WINDOWS, UNMAP, UNREACHABLE, Change, DmaChannel
from machine.memory import ADDRESS_LIMIT, GuestMemory
from vmapp.dmawindows import DmaWindows

SPACE = 48
PAGE = 4096


@dataclass
class Step:
    """A change of the map: ``kind`` is rw, ro or none, or unmap."""

    kind: str
    base: int
    size: int
    file: int
    offset: int


STEPS = st.builds(
    Step,
    st.sampled_from(("rw", "rw", "rw", "ro", "none", "unmap")),
    st.integers(0, SPACE - 1),
    st.integers(1, 16),
    st.integers(0, 2),
    st.integers(0, SPACE),
)


class Reference:
    """What a byte's address means, one byte at a time: (file, offset, writable), or nothing."""

    def __init__(self, ram: int) -> None:
        self.ram = ram
        self.windows: list[Step] = []

    def take(self, step: Step) -> None:
        if step.kind == "unmap":
            end = step.base + step.size
            self.windows = [w for w in self.windows if w.base < step.base or w.base + w.size > end]
        else:
            self.windows.append(step)

    def place(self, address: int) -> tuple[int, int, bool] | None:
        if 0 <= address < self.ram:
            return 3, address, True
        for window in reversed(self.windows):
            if window.base <= address < window.base + window.size:
                if window.kind == "none":
                    return None
                return window.file, window.offset + address - window.base, window.kind == "rw"
        return None


@settings(deadline=None)
@given(
    st.lists(STEPS, max_size=20),
    st.sampled_from((0, 0, 10)),
    st.lists(st.tuples(st.integers(-3, SPACE + 20), st.integers(-1, SPACE)), min_size=1, max_size=12),
)
def test_runs_of_bytes(steps: list[Step], ram: int, accesses: list[tuple[int, int]]) -> None:
    """Reads and writes of n bytes succeed if and only if each byte can be; what is read and stored is byte by byte.

    What fails changes nothing. Several windows show the same bytes of a file, and some continue each other there.
    """
    files = [bytearray(os.urandom(SPACE + 16)) for _ in range(3)] + [bytearray(os.urandom(ram))]
    views = [memoryview(file) for file in files]
    readonly = [view.toreadonly() for view in views]
    memory, reference = GuestMemory(views[3]), Reference(ram)
    for step in steps:
        reference.take(step)
        if step.kind == "unmap":
            memory.unmap(step.base, step.size)
        else:
            view = {"rw": views, "ro": readonly}[step.kind][step.file] if step.kind != "none" else None
            memory.map(step.base, view, step.size, step.offset)
        for number, (address, length) in enumerate(accesses):
            places = [reference.place(address + i) for i in range(length)]
            there = [place for place in places if place is not None]
            readable = length > 0 and len(there) == length
            expected = bytes(files[file][at] for file, at, _ in there) if readable else None
            assert memory.read(address, length) == expected
            one = memory.source(address, length)
            assert one is None or bytes(one) == expected
            before = [bytes(file) for file in files]
            data = bytes((number + 31 * i) & 0xFF for i in range(max(length, 0)))
            writable = readable and all(place[2] for place in there)
            assert memory.write(address, data) == writable
            if writable:
                for (file, at, _), byte in zip(there, data, strict=True):
                    before[file] = before[file][:at] + bytes([byte]) + before[file][at + 1 :]
                # Two addresses may be one byte of a file; in which order they are stored is anybody's guess.
                if len({place[:2] for place in there}) < length:
                    before = [bytes(file) for file in files]
            assert [bytes(file) for file in files] == before


def test_pages_that_continue_each_other_are_one_piece() -> None:
    """What lies together in a file, window by window, is one view: the quick way; what doesn't comes in pieces."""
    view = memoryview(bytearray(8 * PAGE))
    memory = GuestMemory(memoryview(b""))
    for number in (2, 0, 3, 1):
        memory.map(0x10000 + number * PAGE, view, PAGE, number * PAGE)
    memory.map(0x10000 + 4 * PAGE, view, PAGE, 6 * PAGE)
    assert memory.window(0x10000, 4 * PAGE) is not None
    assert memory.window(0x10000, 5 * PAGE) is None
    pieces = memory.targets(0x10000 + 100, 5 * PAGE - 100)
    assert pieces is not None
    assert [len(piece) for piece in pieces] == [4 * PAGE - 100, PAGE]
    memory.unmap(0x10000 + 2 * PAGE, PAGE)
    assert memory.targets(0x10000, 4 * PAGE) is None
    assert memory.window(0x10000, 2 * PAGE) is not None


def test_ram_hides_a_window_under_it() -> None:
    """A window that begins under RAM is seen where RAM has ended, whether an access begins below or not."""
    ram, view = memoryview(bytearray(b"r" * 64)), memoryview(bytearray(b"w" * 128))
    memory = GuestMemory(ram)
    memory.map(0, view)
    assert memory.read(60, 8) == b"rrrrwwww"
    assert memory.source(60, 8) is None
    assert memory.source(64, 8) is not None


def test_no_run_wraps_around() -> None:
    """The last byte of 32 bits can be reached, and nothing continues it: not address 0, not 2**32."""
    memory = GuestMemory(memoryview(bytearray(PAGE)))
    memory.map(ADDRESS_LIMIT - PAGE, memoryview(bytearray(2 * PAGE)))
    assert memory.write(ADDRESS_LIMIT - 1, b"x")
    for address, length in ((ADDRESS_LIMIT - 1, 2), (ADDRESS_LIMIT, 1), (-1, 2), (-1, 1), (0, 0)):
        assert memory.read(address, length) is None
        assert memory.targets(address, length) is None


@dataclass
class Ends:
    """A channel between a vmm and a vmapp, in one process."""

    vmm: DmaChannel
    memory: GuestMemory
    windows: DmaWindows

    def change(
        self,
        kind: int,
        address: int = 0,
        size: int = 0,
        offset: int = 0,
        *,
        writable: bool = True,
        fd: int | None = None,
    ) -> int:
        """Sends a change and has it taken over: the errno."""
        self.vmm.send(Change(kind, address, size, offset, writable), fd)
        return self.windows.take()


@contextmanager
def channel() -> Iterator[Ends]:
    """Both ends, with no window."""
    vmm, vmapp = (DmaChannel(end.detach()) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    memory = GuestMemory(memoryview(b""))
    with vmm._socket, vmapp._socket:
        yield Ends(vmm, memory, DmaWindows(memory, vmapp, lambda: None))
        memory.clear()


def memfd(pages: int) -> int:
    """A sealed memory file whose pages differ."""
    fd = os.memfd_create("dma-runs", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, pages * PAGE)
    for page in range(min(pages, 64)):
        os.pwrite(fd, bytes([page + 1]), page * PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def mapped(name: str = "dma-runs") -> int:
    """How many mappings of such files this process has."""
    return Path("/proc/self/maps").read_text().count(f"memfd:{name}")


def test_a_file_is_mapped_once() -> None:
    """A thousand windows of one file: one mapping, one descriptor; with the last window both are gone."""
    with channel() as ends:
        fd = memfd(64)
        descriptors = len(os.listdir("/proc/self/fd"))
        for number in range(1000):
            page = number * 7 % 64
            assert ends.change(MAP, number * 3 * PAGE, PAGE, page * PAGE, fd=fd) == 0
            assert ends.memory.read(number * 3 * PAGE, 1) == bytes([page + 1])
        assert mapped() == 1
        assert len(os.listdir("/proc/self/fd")) == descriptors + 1
        os.close(fd)
        for number in range(1000):
            assert mapped() == 1
            assert ends.change(UNMAP, number * 3 * PAGE, PAGE) == 0
        assert mapped() == 0


def test_read_only_windows_have_a_mapping_of_their_own() -> None:
    """The same page, once to be read and once to be written: the first cannot be written, whoever was first."""
    with channel() as ends:
        fd = memfd(1)
        assert ends.change(MAP, 0, PAGE, writable=True, fd=fd) == 0
        assert ends.change(MAP, PAGE, PAGE, writable=False, fd=fd) == 0
        assert ends.memory.write(0, b"y")
        assert not ends.memory.write(PAGE, b"z")
        assert not ends.memory.write(PAGE - 1, b"zz")
        assert ends.memory.read(PAGE, 1) == b"y"
        os.close(fd)


def test_a_mapping_lends_nobody_its_rights() -> None:
    """A descriptor that may only be read makes no writable window, though the file is mapped writable already."""
    with channel() as ends:
        fd = memfd(1)
        assert ends.change(MAP, 0, PAGE, writable=True, fd=fd) == 0
        only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        assert ends.change(MAP, PAGE, PAGE, writable=True, fd=only) == errno.EACCES
        assert ends.change(MAP, PAGE, PAGE, writable=False, fd=only) == 0
        os.close(only)
        os.close(fd)


def test_a_file_that_grows() -> None:
    """Windows of what a file has become since it was first mapped; beyond its end there are none."""
    with channel() as ends:
        fd = memfd(2)
        assert ends.change(MAP, 0, PAGE, fd=fd) == 0
        assert ends.change(MAP, PAGE, 2 * PAGE, PAGE, fd=fd) == errno.EINVAL
        os.ftruncate(fd, 4 * PAGE)
        assert ends.change(MAP, PAGE, 2 * PAGE, 2 * PAGE, fd=fd) == 0
        assert ends.memory.read(0, 3 * PAGE) is not None
        assert ends.change(MAP, PAGE, PAGE, 1 << 62, fd=fd) == errno.EINVAL
        os.close(fd)


def test_a_file_larger_than_all_addresses() -> None:
    """Of a sparse file that no process could map as a whole, the window is mapped alone."""
    with channel() as ends:
        fd = memfd((1 << 63) // PAGE - 1)
        assert ends.change(MAP, 0, PAGE, 8 * PAGE, fd=fd) == 0
        assert ends.memory.read(0, 1) == b"\x09"
        os.close(fd)


def test_as_many_windows_and_files_as_there_may_be() -> None:
    """One window or one file too many is refused; when some have gone there is room again."""
    with channel() as ends:
        files = [memfd(1) for _ in range(MOST_FILES + 1)]
        for number, fd in enumerate(files[:-1]):
            assert ends.change(MAP, number * PAGE, PAGE, fd=fd) == 0
        assert ends.change(MAP, 0, PAGE, fd=files[-1]) == errno.ENOSPC
        assert ends.change(UNMAP, 0, PAGE) == 0
        assert ends.change(MAP, 0, PAGE, fd=files[-1]) == 0
        for fd in files[:-1]:
            os.close(fd)
        for number in range(ends.memory.windows, MOST_WINDOWS):
            assert ends.change(UNREACHABLE, number * PAGE, PAGE) == 0
        assert ends.change(MAP, 0, PAGE, fd=files[-1]) == errno.ENOSPC
        assert ends.change(UNREACHABLE, 0, PAGE) == errno.ENOSPC
        assert ends.change(UNMAP, 0, PAGE) == 0
        assert ends.change(MAP, 0, PAGE, fd=files[-1]) == 0
        os.close(files[-1])
        assert ends.change(CLEAR) == 0
        assert mapped() == 0


@pytest.mark.parametrize("size", [PAGE, 1 << 32])
def test_windows_all_over_one_another(size: int) -> None:
    """As many as there may be at one place: each unmap looks at all of them once, and shows the newest that is left."""
    view = memoryview(bytearray(PAGE))
    memory = GuestMemory(memoryview(b""))
    for number in range(4000):
        memory.map(number, view, PAGE, 0) if size == PAGE else memory.map(0, None, size + number)
    memory.map(0, view, 8)
    assert memory.read(0, 8) is not None
    memory.unmap(0, 8)
    assert (memory.read(0, 8) is None) == (size != PAGE)
    assert memory.windows == 4000
