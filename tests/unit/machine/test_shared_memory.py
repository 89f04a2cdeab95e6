"""Shared pages as root sees them: read without being mapped, and there in full from the start."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.status import measure
from machine.control import Channel
from machine.errors import ControlError, SetupError
from machine.lance.registers import describe
from machine.lance.state import STATE_WORDS
from machine.layout import COUNTER_PAGE_BYTES
from machine.shm import PageReader, attach, create, reserve


def test_a_page_that_is_cut_reads_as_zeros() -> None:
    """Whoever reads a page by pread() lives on when its writer cuts it; a mapping would be SIGBUS."""
    fd = create("cut", 8192)
    words = attach(fd, 8192).cast("Q")
    words[0], words[600] = 7, 9
    page = PageReader(fd, 8192)
    assert (page.words()[0], page.words()[600], page.cut) == (7, 9, False)
    os.ftruncate(fd, 4096)
    assert (page.words()[0], page.words()[600], page.cut) == (7, 0, True)
    os.ftruncate(fd, 0)
    assert list(page.words()) == [0] * 1024
    assert list(page.words("I", 4096)) == [0] * 1024
    os.close(fd)


def test_a_mapping_of_a_page_that_is_cut_is_deadly() -> None:
    """Why root's processes do not map: the same, mapped, ends by SIGBUS (this is what the test above is about)."""
    code = "import os; from machine.shm import attach, create; fd = create('cut', 4096); m = attach(fd, 4096)"
    done = subprocess.run([sys.executable, "-c", f"{code}; os.ftruncate(fd, 0); m[0]"], check=False, timeout=20)
    assert done.returncode == -signal.SIGBUS


def test_shared_memory_is_there_from_the_start() -> None:
    """An object's memory is allocated when it is made, unless that is put off to a later ``reserve``."""
    now, later = create("now", 1 << 20), create("later", 1 << 20, reserved=False)
    assert os.fstat(now).st_blocks * 512 == 1 << 20
    assert os.fstat(later).st_blocks == 0
    reserve(later, 1 << 20)
    assert os.fstat(later).st_blocks * 512 == 1 << 20
    os.close(now)
    os.close(later)


def test_a_full_dev_shm_is_said_at_once() -> None:
    """More than /dev/shm holds: one line that says so, and no descriptor or name left."""
    space = os.statvfs("/dev/shm")
    names, fds = os.listdir("/dev/shm"), len(os.listdir("/proc/self/fd"))
    if space.f_bavail * space.f_frsize > 1 << 40:
        pytest.skip("/dev/shm is larger than a test should try to fill")
    with pytest.raises(SetupError, match="no room in /dev/shm"):
        create("huge", (space.f_blocks + 1) * space.f_frsize)
    assert (os.listdir("/dev/shm"), len(os.listdir("/proc/self/fd"))) == (names, fds)


def test_a_lack_of_descriptors_is_not_taken_for_a_lack_of_memory() -> None:
    """posix_ipc's words for EMFILE; what helps is `ulimit -n`, and /dev/shm has no part in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(SetupError, match=r"too many open files \(see `ulimit -n`\)$"):
            create("many", 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Hostile:
    """A stack whose processes have filled the pages that the supervisor reads with ``pattern``."""

    def __init__(self, pattern: bytes) -> None:
        def words(size: int, code: str) -> memoryview:
            return memoryview((pattern * (size // len(pattern) + 1))[:size]).cast(code)  # type: ignore[call-overload, no-any-return]

        self.counters = {role: words(COUNTER_PAGE_BYTES, "Q") for role in ("guest", "vmm", "vmapp")}
        self.lance = words(4 * STATE_WORDS, "I")
        self.settings = type("Settings", (), {"foreign": False})()
        self.keeper = type("Keeper", (), {"cut": []})()


@given(st.binary(min_size=1, max_size=64) | st.just(b"\xff"))
def test_status_and_registers_of_any_pages(pattern: bytes) -> None:
    """Whatever the processes put into their pages, the supervisor's answers can be made and sent."""
    stack = Hostile(pattern)
    here, there = Channel.pair()
    here.send({"event": "status", **measure(stack)})  # type: ignore[arg-type]
    assert there.receive(1.0) is not None
    try:
        here.send({"event": "registers", "text": describe(stack.lance)})
        assert there.receive(1.0) is not None
    except ControlError as error:
        raise AssertionError("the registers cannot be sent") from error
    here.close()
    there.close()
