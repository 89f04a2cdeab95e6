"""What the supervisor keeps: each process's descriptors by name, who shares what, and nothing left at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.keeper import Keeper
from machine import layout
from machine.config import make_settings
from machine.doorbell import DOORBELLS
from machine.wiring import EVENTS, INTERRUPTS, PAGES, RINGS, ROLES, bell, interrupt

ACCESS = os.O_ACCMODE


def open_fds() -> set[str]:
    """The descriptors of the process."""
    return set(os.listdir("/proc/self/fd"))


@contextmanager
def kept(**settings: object) -> Iterator[Keeper]:
    """A keeper that has made everything for these settings."""
    keeper = Keeper()
    try:
        keeper.make(make_settings({"ram_mib": 1}, settings))
        yield keeper
    finally:
        keeper.close()


def kind(fd: int) -> str:
    """What the descriptor is open to: "pipe:[1]", "anon_inode:[eventfd]", ..."""
    return os.readlink(f"/proc/self/fd/{fd}")


def access(fd: int) -> int:
    """O_RDONLY, O_WRONLY or O_RDWR."""
    match = re.search(r"flags:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())
    assert match is not None
    return int(match[1], 8) & ACCESS


@pytest.mark.parametrize("doorbell", DOORBELLS)
def test_each_role_is_given_what_the_table_says(doorbell: str):
    """Pages, events, its own bell and those that it rings, its interrupts and those that it raises; nothing else."""
    with kept(doorbell=doorbell) as keeper:
        for role in ROLES:
            bells = {bell(owner) for owner in (role, *RINGS[role])} if doorbell != "semaphore" else set()
            interrupts = {interrupt(whom) for whom in INTERRUPTS.get(role, ())}
            interrupts |= {interrupt(role)} if any(role in whom for whom in INTERRUPTS.values()) else set()
            assert (
                set(keeper.of(role))
                == {*PAGES[role], *EVENTS[role], "counters", "trace", "parent"} | bells | interrupts
            )


def test_the_guest_holds_nothing_of_the_others_alone():
    """Not the world page, not what rings vmapp or ends its select(), nobody else's counters."""
    with kept(doorbell="signal") as keeper:
        guest, others = keeper.of("guest"), [keeper.of(role) for role in ROLES if role != "guest"]
        assert not {"world", "kick", bell("vmapp"), interrupt("vmapp")} & set(guest)
        assert guest["counters"] not in {names["counters"] for names in others}


def test_pages_and_events_are_shared():
    """The same page has the same descriptor in each role's table, of the right size."""
    with kept() as keeper:
        assert len({keeper.fd(role, "gate") for role in ROLES}) == 1
        assert keeper.fd("vmm", "kick") == keeper.fd("vmapp", "kick")
        assert os.fstat(keeper.fd("guest", "ram")).st_size == 1 << 20
        assert os.fstat(keeper.fd("vmm", "world")).st_size == layout.WORLD_BYTES


def test_pipes_have_one_reader_and_writers_with_flags_of_their_own():
    """Signals by pipe: the owner reads, who rings writes, and no two of them share an open file description."""
    with kept(doorbell="signal") as keeper:
        for owner in ROLES:
            ends = {role: keeper.fd(role, bell(owner)) for role in ROLES if bell(owner) in keeper.of(role)}
            assert len({kind(fd) for fd in ends.values()}) == 1
            assert kind(ends[owner]).startswith("pipe:")
            assert {role: access(fd) for role, fd in ends.items()} == {
                role: os.O_RDONLY if role == owner else os.O_WRONLY for role in ends
            }
            for role, fd in ends.items():
                assert not os.get_blocking(fd)
                os.set_blocking(fd, True)
                assert not any(os.get_blocking(other) for name, other in ends.items() if name != role)
                os.set_blocking(fd, False)


def test_a_guest_behind_a_socket():
    """Its memory is the client's: there is no RAM, and a socket on which it comes."""
    with kept(guest="none") as keeper:
        assert "ram" not in keeper.of("vmapp")
        assert kind(keeper.fd("vmm", "dma")).startswith("socket:")
        assert keeper.fd("vmm", "dma") != keeper.fd("vmapp", "dma")


def test_what_is_lent_is_a_duplicate(tmp_path):
    """The caller may close its own, and the end closes the keeper's."""
    keeper = Keeper()
    fd = os.open(tmp_path, os.O_RDONLY)
    keeper.lend("vmapp", "tap", fd)
    os.close(fd)
    assert kind(keeper.fd("vmapp", "tap")) == str(tmp_path)
    assert not os.get_inheritable(keeper.fd("vmapp", "tap"))
    keeper.close()


@pytest.mark.parametrize("doorbell", DOORBELLS)
def test_nothing_stays_open(doorbell: str):
    """After close() the process has the descriptors that it had; twice does no harm, and nobody is given anything."""
    before = open_fds()
    with kept(doorbell=doorbell) as keeper:
        assert open_fds() > before
    assert open_fds() == before
    keeper.close()
    assert keeper.of("guest") == {}
