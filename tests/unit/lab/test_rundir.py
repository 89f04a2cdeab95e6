"""The run directory: one owner at a time, a whole record at any time, gone when given up. No privilege."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import processes, recovery
from lab.commands.down import _settled
from lab.rundir import RunDirectory, names, running_record, state_of
from lab.stops import StopRequests
from machine.errors import StackError, StartInterruptedError


@pytest.fixture
def base(tmp_path):
    """A directory for run directories."""
    return tmp_path / "run"


@pytest.fixture
def sleeper():
    """A process that sleeps."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_one_name_has_one_owner(base):
    """A claimed name cannot be claimed again until it is released; then nothing is left of it."""
    first, second = RunDirectory("a", base), RunDirectory("a", base)
    first.claim()
    with pytest.raises(StackError, match="is up"):
        second.claim(0.05)
    assert names(base) == ["a"]
    assert (base / "a").stat().st_mode & 0o777 == 0o700
    first.release()
    assert not base.exists()
    second.claim()
    second.release()
    second.release()


def test_claiming_and_releasing_at_once_leaves_one_owner(base):
    """Threads that fight for a name hold it one after the other, although each removes the lock file."""
    holders = []
    overlaps = []

    def fight():
        for _ in range(20):
            directory = RunDirectory("a", base)
            directory.claim(10)
            holders.append(1)
            overlaps.append(len(holders))
            holders.pop()
            directory.release()

    threads = [threading.Thread(target=fight) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(overlaps) == {1}
    assert not base.exists()


def test_the_record_is_what_was_saved_last(base):
    """Saving replaces; a record that is none is refused in one line."""
    directory = RunDirectory("a", base)
    assert directory.load() is None
    directory.claim()
    for number in range(3):
        directory.save({"number": number})
    assert directory.load()["number"] == 2
    for junk in (b"", b"\xc1", b"\x01", b"\x80"):
        (base / "a" / "record.msgpack").write_bytes(junk)
        with pytest.raises(StackError, match="damaged"):
            directory.load()
    directory.release()


def test_a_kept_record_survives_its_owner(base):
    """What could not be removed stays on record, and the name can be claimed to try again."""
    directory = RunDirectory("a", base)
    directory.claim()
    directory.save({"number": 1})
    directory.release(keep_record=True)
    again = RunDirectory("a", base)
    again.claim()
    assert again.load()["number"] == 1
    again.release()


def test_states():
    """A record's state is its supervisor's word as long as that lives; afterwards the stack is dead."""
    here = processes.identify(os.getpid())
    gone = here | {"started": here["started"] + 1}
    assert state_of(None) == "absent"
    assert state_of({"state": "running", "supervisor": here}) == "running"
    assert state_of({"state": "starting", "supervisor": gone}) == "dead"
    assert state_of({"state": "stopped", "supervisor": gone}) == "stopped"


def test_only_the_very_process_is_ended(sleeper):
    """A recorded pid that is another process by now is left alone."""
    identity = processes.identify(sleeper.pid)
    assert processes.end([identity | {"started": 1}], signal.SIGKILL, 1)
    assert processes.is_alive(identity)
    assert processes.end([identity], signal.SIGKILL, 5)
    assert not processes.is_alive(identity)
    assert processes.end([identity], signal.SIGKILL, 1)


def test_a_process_that_does_not_end_is_reported(sleeper):
    """Waiting is bounded; a process that ignores the signal is not called ended."""
    assert not processes.end([processes.identify(sleeper.pid)], signal.SIGCONT, 0.05)


def test_a_stopped_process_hears_of_its_end(sleeper):
    """One that Ctrl-Z, or its terminal, has stopped goes on, and ends: nobody has to kill it."""
    sleeper.send_signal(signal.SIGSTOP)
    assert processes.end([processes.identify(sleeper.pid)], signal.SIGTERM, 10)
    assert sleeper.wait() == -signal.SIGTERM


def test_down_waits_for_a_start_that_has_just_begun(base):
    """Between the claim of a name and its first record, or its release, `down` waits, and is told what came of it."""
    starting = {"state": "starting", "supervisor": processes.identify(os.getpid())}
    for record in (starting, None):
        first, second = RunDirectory("a", base), RunDirectory("a", base)
        first.claim()
        with ThreadPoolExecutor(1) as pool:
            settled = pool.submit(_settled, second)
            with pytest.raises(TimeoutError):
                settled.result(0.2)
            if record is not None:
                first.save(record)
            else:
                first.release()
            found = settled.result(10)
        assert state_of(found) == state_of(record)
        second.release()
        first.release()
    assert not base.exists()


def test_shared_memory_goes_by_its_creators_number(monkeypatch, tmp_path):
    """Only objects that carry the dead supervisor's pid are removed; those of a living namesake are not."""
    mine = ("worldswitch-ram-77-abcd", "worldswitch-counters-vmm-77-abcd", "sem.worldswitch-vmm-77-abcd")
    others = ("worldswitch-ram-177-abcd", "worldswitch-ram-7-77", "other-77-abcd", "worldswitch-77")
    for name in (*mine, *others):
        (tmp_path / name).touch()
    monkeypatch.setattr(recovery, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(processes, "identify", lambda pid: {"pid": pid, "started": 5})
    recovery._remove_shared_memory({"pid": 77, "started": 4})
    assert set(os.listdir(tmp_path)) == {*mine, *others}
    recovery._remove_shared_memory({"pid": 77, "started": 5})
    assert set(os.listdir(tmp_path)) == set(others)


def test_signals_become_requests():
    """A signal within the block is noted, not acted on; the first one decides the exit status."""
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stops:
        stops.check()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StartInterruptedError):
            stops.check()
        assert stops.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_hang_up_is_a_request():
    """A watched descriptor counts when its other end is closed, until it is no longer watched."""
    reader, writer = os.pipe()
    with StopRequests() as stops:
        stops.watch(reader)
        stops.check()
        os.close(writer)
        with pytest.raises(StartInterruptedError):
            stops.check()
        stops.watch(None)
        stops.check()
    os.close(reader)


def test_what_to_do_about_a_stack_that_does_not_run(base, monkeypatch):
    """Each state has a remedy of its own: "start it" is no help with one that is just starting, or was not removed."""
    directory = RunDirectory("remedied", base)
    for state, said in (
        ("absent", "start it with `worldswitch up`"),
        ("starting", "wait until it is up"),
        ("dead", "`worldswitch down` removes what it left"),
        ("unclean", "`worldswitch down` tries again"),
    ):
        monkeypatch.setattr("lab.rundir.state_of", lambda _record, state=state: state)
        with pytest.raises(StackError, match=f"is {state}: .*{said}"):
            running_record(directory)
