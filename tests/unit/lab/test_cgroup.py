"""Control groups: which hierarchy, what is written, and that everything is put back; on a tree of plain files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import cgroup
from lab.cgroup import Controller, CpuGroup, find_controller, membership
from machine.errors import SetupError

V1 = "30 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V1_SET = "31 25 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
V2 = "29 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
ODD = "32 25 0:29 / /mnt/a\\040b rw - tmpfs none rw\n\nnonsense - \n"


def test_version_1_is_found_by_its_options():
    """The hierarchy with the option cpu, not cpuset; even where v2 is mounted without the controller."""
    assert find_controller(V1_SET + V2 + V1, "memory") == Controller(1, Path("/sys/fs/cgroup/cpu,cpuacct"))


def test_version_2_must_offer_the_controller():
    """v2 counts if cgroup.controllers lists cpu; else there is none, in one line."""
    assert find_controller(ODD.splitlines()[0] + "\n" + V2, "cpuset cpu io") == Controller(2, Path("/sys/fs/cgroup"))
    with pytest.raises(SetupError, match="cpu controller"):
        find_controller(V1_SET + V2, "cpuset memory")


def test_membership_of_a_process():
    """The line of the hierarchy in question; the root if there is none."""
    text = "4:memory:/a\n2:cpu,cpuacct:/b/c\n0::/d:e\n"
    assert membership(text, 1) == "b/c"
    assert membership(text, 2) == "d:e"
    assert membership("", 1) == ""


def plant(root: Path, *names: str) -> None:
    """Empty files of these names."""
    for name in names:
        (root / name).touch()


@pytest.fixture
def hierarchy(tmp_path, monkeypatch):
    """A directory that, like cgroupfs, fills each new group with its files, and loses them with the group."""
    files = ("cgroup.procs", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.max")
    plant(tmp_path, "cgroup.procs", "cgroup.subtree_control")
    make, remove = Path.mkdir, Path.rmdir

    def mkdir(self, *args, **keys):
        make(self, *args, **keys)
        plant(self, *files)

    def rmdir(self):
        for name in files:
            (self / name).unlink()
        remove(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    return tmp_path


def test_version_1_gets_a_quota_and_goes(hierarchy):
    """Half a CPU is 5 ms in every 10; the process comes in and goes back; the group is gone."""
    with CpuGroup("g", 0.5, Controller(1, hierarchy)) as group:
        made = hierarchy / "g"
        assert (made / "cpu.cfs_period_us").read_text() == "10000"
        assert (made / "cpu.cfs_quota_us").read_text() == "5000"
        group.take(os.getpid())
        assert group.members == [os.getpid()]
    assert not made.exists()
    assert (hierarchy / "cgroup.procs").read_text() == str(os.getpid())


def test_version_2_is_enabled_only_while_needed(hierarchy):
    """cpu.max holds quota and period; subtree_control is switched on for it, and off again."""
    with CpuGroup("g", 1.5, Controller(2, hierarchy)):
        assert (hierarchy / "g" / "cpu.max").read_text() == "15000 10000"
        assert (hierarchy / "cgroup.subtree_control").read_text() == "+cpu"
    assert (hierarchy / "cgroup.subtree_control").read_text() == "-cpu"


def test_the_group_goes_when_its_block_fails(hierarchy):
    """An error within the block leaves no group."""
    with pytest.raises(ZeroDivisionError), CpuGroup("g", 0.5, Controller(1, hierarchy)):
        _ = 1 / 0
    assert not (hierarchy / "g").exists()


def test_a_process_that_has_ended_is_ignored(hierarchy):
    """A pid that no process has."""
    with CpuGroup("g", 0.5, Controller(1, hierarchy)) as group:
        group.take(1 << 30)
        assert group.members == []


def test_a_hierarchy_that_cannot_be_written_is_one_line(tmp_path):
    """A mount point without the files: SetupError, and nothing stays behind."""
    with pytest.raises(SetupError, match="cannot make control group"), CpuGroup("g", 0.5, Controller(1, tmp_path)):
        pass
    assert not (tmp_path / "g").exists()


def test_this_machine_has_one_or_says_that_it_has_none():
    """Whatever is mounted here, looking for it gives a controller or a SetupError."""
    try:
        assert cgroup._here().path.is_dir()
    except SetupError:
        pass
