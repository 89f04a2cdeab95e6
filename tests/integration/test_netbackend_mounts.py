"""Namespaces where iproute2 and others mount things, too: made as it makes them, and removable whatever is on top."""

from __future__ import annotations

import fcntl
import os
import threading

import pytest

from machine.errors import NetworkError, StackError
from netbackend import namespaces, nsfiles, topology
from netbackend.libc import MS_BIND, MS_REC, MS_SHARED, mount, unmount
from netbackend.plan import NetworkPlan
from tests.kit.mounts import mounted_on, with_own_run

NAME = "ws-mounts-x"
NETNS = "/run/netns"


def test_the_first_namespace_prepares_the_directory():
    """After it /run/netns is one mount, and shared: nothing that iproute2 will find to be done."""

    def look():
        namespaces.create(NAME)
        with open("/proc/thread-self/mountinfo") as file:
            lines = [line.split() for line in file if line.split()[4] == NETNS]
        namespaces.remove(NAME)
        return lines

    (line,) = with_own_run(look)
    assert any(field.startswith("shared:") for field in line)


def test_two_first_namespaces_make_one_mount():
    """Eight threads at once, in an empty /run: the directory is mounted once, not one over another."""

    def race():
        threads = [threading.Thread(target=namespaces.create, args=(f"{NAME}{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = mounted_on(NETNS)
        for i in range(8):
            namespaces.remove(f"{NAME}{i}")
        return found.count(NETNS), len(found), mounted_on(NETNS)

    assert with_own_run(race) == (1, 9, [NETNS])


def bind():
    """As iproute2 does when it finds no mount: over the directory, with what is mounted below."""
    mount(NETNS, NETNS, "none", MS_BIND | MS_REC)
    mount("", NETNS, "none", MS_SHARED | MS_REC)


def bare():
    """Over the directory, without what is mounted below."""
    mount(NETNS, NETNS, "none", MS_BIND)


def empty():
    """Another file system over the directory."""
    mount("tmpfs", NETNS, "tmpfs", 0)


def over():
    """Something over the very file."""
    mount("/proc/self/ns/net", f"{NETNS}/{NAME}", "none", MS_BIND)


def gone():
    """Unmounted by somebody; the file is there."""
    unmount(f"{NETNS}/{NAME}")


def deleted():
    """As `ip netns delete` does."""
    unmount(f"{NETNS}/{NAME}")
    os.unlink(f"{NETNS}/{NAME}")


@pytest.mark.parametrize(
    "ways", [[bind], [bare], [empty], [gone], [deleted], [bind, bind, bind], [bind, empty, bare], [bare, empty, empty]]
)
def test_whatever_covers_it_a_namespace_goes(ways):
    """By its identity, as a record has it: nothing stays mounted, in sight or out of it."""

    def try_it():
        made = namespaces.create(NAME)
        for way in ways:
            way()
        namespaces.remove(NAME, made)
        return mounted_on(f"{NETNS}/")

    assert with_own_run(try_it) == []


@pytest.mark.parametrize("ways", [[], [over], [over, over, bind], [bind, over], [bare, bind]])
def test_what_is_mounted_over_the_file_goes_too(ways):
    """By its name alone: all layers, on the file and on the directory."""

    def try_it():
        namespaces.create(NAME)
        for way in ways:
            way()
        there = namespaces.remove(NAME)
        return there, mounted_on(f"{NETNS}/"), os.path.exists(f"{NETNS}/{NAME}")

    assert with_own_run(try_it) == (True, [], False)


def test_a_namespace_that_was_made_before_the_directory_was_a_mount_goes():
    """As an older version, or another program, has made it, with iproute2's mount over it since."""

    def try_it():
        os.mkdir(NETNS)
        open(f"{NETNS}/{NAME}", "w").close()
        mount("/proc/thread-self/ns/net", f"{NETNS}/{NAME}", "none", MS_BIND)
        bind()
        return namespaces.remove(NAME), mounted_on(f"{NETNS}/")

    assert with_own_run(try_it) == (True, [])


@pytest.mark.parametrize(
    "prepare", [lambda: os.symlink("/nowhere", NETNS), lambda: open(NETNS, "w").close()], ids=["dangling", "file"]
)
def test_a_directory_that_is_none_is_one_line(prepare):
    """A dangling link, or a file: an error that names the directory, and not one about a name that is taken."""

    def try_it():
        prepare()
        namespaces.create(NAME)

    with pytest.raises(NetworkError, match=f"cannot keep network namespaces in {NETNS}"):
        with_own_run(try_it)


def test_a_linked_directory_is_as_good():
    """/run/netns as a link to a directory elsewhere."""

    def try_it():
        os.mkdir("/run/elsewhere")
        os.symlink("/run/elsewhere", NETNS)
        made = namespaces.create(NAME)
        found = namespaces.identity(NAME) == made
        return found, namespaces.remove(NAME, made), mounted_on("/run/elsewhere/"), os.listdir("/run/elsewhere")

    assert with_own_run(try_it) == (True, True, [], [])


def test_somebody_who_keeps_the_lock_is_not_waited_for_without_end(monkeypatch):
    """The lock is any program's to take: after a while that is one line."""
    monkeypatch.setattr(nsfiles, "_LOCK_SECONDS", 0.05)

    def try_it():
        os.mkdir(NETNS)
        fd = os.open(NETNS, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            namespaces.create(NAME)
        finally:
            os.close(fd)

    with pytest.raises(NetworkError, match="is locked by another program"):
        with_own_run(try_it)


def test_a_strangers_namespace_is_nobodys_leftover():
    """One that somebody has made under our name, in place of ours, is not removed, and keeps no record."""
    plan = NetworkPlan("mounts")
    planned = [station.namespace for station in plan.stations.values()]

    def try_it():
        network = topology.build(plan, None)
        assert set(topology.left_of(network.record, planned)) == set(planned)
        namespaces.remove(plan.peer.namespace)
        stranger = namespaces.create(plan.peer.namespace)
        network.close()
        left = topology.left_of(network.record, planned)
        found = namespaces.identity(plan.peer.namespace)
        namespaces.remove(plan.peer.namespace)
        return left, found == stranger

    assert with_own_run(try_it) == ({}, True)


def test_what_was_made_and_not_recorded_is_a_leftover():
    """Its maker was killed between the two: the plan knows it."""

    def try_it():
        namespaces.create(NAME)
        found = topology.left_of({"namespaces": []}, [NAME, "ws-mounts-y"])
        namespaces.remove(NAME)
        return found

    assert with_own_run(try_it) == {NAME: None}
    with pytest.raises(StackError):
        topology.left_of({}, [NAME])
