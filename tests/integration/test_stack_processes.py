"""The three processes of a running stack: who they are, what they may do, what they leave behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from machine.doorbell import DOORBELLS
from machine.errors import ProcessDiedError
from tests.conftest import NETNS_DIR, SHM_DIR, SHM_PREFIXES, names_in
from tests.kit.programs import ping
from tests.kit.stack import cpu_seconds, eventually, running

IDLE_S = 5.0
MOST_IDLE_CPU = 0.01
MOST_MEMORY = 120 << 20


@pytest.fixture(scope="module")
def bed():
    """A stack as the paper has it."""
    with running(link="100mbit") as made:
        yield made


def status(pid):
    """/proc/PID/status as a map."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_each_role_is_a_process_of_its_name(bed):
    """Guest, vmm and vmapp are three processes that ps, top and perf show under these names."""
    assert len(set(bed.stack.pids.values())) == 3
    assert {role: process.name() for role, process in bed.processes.items()} == {
        role: role for role in ("guest", "vmm", "vmapp")
    }


@pytest.mark.parametrize("role", ["guest", "vmm", "vmapp"])
def test_no_process_keeps_a_privilege(bed, role):
    """Every process runs as nobody, has no capability of any kind and no way to gain one."""
    found = status(bed.stack.pids[role])
    assert set(found["Uid"].split()) == set(found["Gid"].split()) == {"65534"}
    assert found["Groups"] == ""
    assert {found[key] for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert found["NoNewPrivs"] == "1"


@pytest.mark.parametrize("doorbell", DOORBELLS)
def test_a_process_holds_what_the_supervisor_keeps_for_it_and_no_more(doorbell):
    """Beside the standard ones, its channel and what its loop polls with: each descriptor is one that it was given."""
    with running(doorbell=doorbell) as bed:
        for role, pid in bed.stack.pids.items():
            names = bed.stack.keeper.of(role)
            del names["parent"]  # of use at the start only, and closed then
            given = {os.readlink(f"/proc/self/fd/{fd}") for fd in names.values()}
            folder = Path(f"/proc/{pid}/fd")
            held = [os.readlink(entry) for entry in folder.iterdir() if int(entry.name) > 2]
            others = [name for name in held if name not in given and "eventpoll" not in name]
            if role == "guest":  # its two views of its kernel: rtnetlink, and the groups
                (groups,) = (name for name in others if name.endswith("/net/dev_mcast"))
                others.remove(groups)
            assert len(others) == (2 if role == "guest" else 1), others
            assert all(name.startswith("socket:") for name in others)
            assert given <= set(held)


def test_one_processor_is_the_default(bed):
    """Without further settings all three share one CPU, as on the paper's machine."""
    assert {tuple(process.cpu_affinity()) for process in bed.processes.values()} == {(0,)}


def test_an_idle_stack_costs_next_to_nothing(bed):
    """With nothing to do, the three together use less than 1 % of one CPU and less than 120 MB."""
    bed.settle()
    before = {role: cpu_seconds(process) for role, process in bed.processes.items()}
    time.sleep(IDLE_S)
    used = {role: cpu_seconds(process) - before[role] for role, process in bed.processes.items()}
    assert sum(used.values()) < MOST_IDLE_CPU * IDLE_S, used
    memory = {role: process.memory_info().rss for role, process in bed.processes.items()}
    assert sum(memory.values()) < MOST_MEMORY, memory


def test_an_ended_stack_leaves_nothing():
    """After the end of a stack that was at work there is no namespace, shared memory or process of it."""
    with running(doorbell="semaphore") as bed:
        assert ping(bed, "guest", "peer", 5) == 5
        processes = bed.processes.values()
        assert len(names_in(NETNS_DIR, (f"ws-{bed.plan.stack}-",))) == 4
    assert not names_in(NETNS_DIR, (f"ws-{bed.plan.stack}-",))
    assert not [name for name in names_in(SHM_DIR, SHM_PREFIXES) if f"-{os.getpid()}-" in name]
    assert not any(process.is_running() for process in processes)
    bed.stack.close()
    bed.network.close()


@pytest.mark.parametrize("role", ["guest", "vmm", "vmapp"])
def test_a_process_that_dies_is_reported_by_name(role):
    """A process that is killed is named, and the others end with the stack."""
    with running() as bed:
        bed.processes[role].kill()
        assert eventually(bed.stack.died)
        assert bed.stack.died() == f"process {role} (pid {bed.stack.pids[role]}) was killed by SIGKILL"


@pytest.mark.parametrize("role", ["vmm", "vmapp"])
def test_a_message_to_a_process_that_has_died_says_so(role):
    """Who tells it something learns its name and its end, not that some connection is closed."""
    with running() as bed:
        signal.pidfd_send_signal(bed.stack.pidfds[role], signal.SIGKILL)
        assert eventually(lambda: bed.stack.died() is not None)
        with pytest.raises(ProcessDiedError, match=f"{role} .* was killed by SIGKILL"):
            bed.stack.send(role, {"command": "trace"})
