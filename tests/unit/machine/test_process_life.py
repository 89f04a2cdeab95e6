"""What a process of the stack does to itself, and how it starts from its launch record."""

from __future__ import annotations

import errno
import json
import os
import platform
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from machine import layout, signalpipe
from machine.config import make_settings
from machine.control import Channel
from machine.errors import ConfigError
from machine.process import SHORT_SLICE_NS, pin, shorten_slice
from machine.shm import create
from machine.wiring import bell, interrupt

REPOSITORY = Path(__file__).resolve().parents[3]
MAC = bytes.fromhex("525400c61200")


def python(code: str, *arguments: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """A Python of its own that runs ``code`` with this repository on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPOSITORY,
        pass_fds=fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(code: str) -> str:
    """What such a Python prints; it must end well."""
    with python(code) as process:
        text, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    return text.strip()


def test_set_name():
    """The name that ps and perf show, cut to 15 bytes."""
    code = "from machine.process import set_name; set_name({!r}); print(open('/proc/self/comm').read())"
    assert output(code.format("guest")) == "guest"
    assert output(code.format("a-very-long-process-name")) == "a-very-long-pro"


def test_no_io_uring():
    """io_uring_setup() is not there any more, in a child program neither; everything else is."""
    code = """
        import subprocess, sys
        from machine.process import confine, drop_privileges
        ask = "import ctypes as c; c.CDLL(None, use_errno=True).syscall(425, 1, 0); print(c.get_errno(), flush=True)"
        exec(ask)
        drop_privileges()
        confine()
        exec(ask)
        subprocess.run([sys.executable, "-c", ask], check=True)
    """
    before, after, child = map(int, output(code).split())
    if before == errno.ENOSYS:
        pytest.skip("this kernel has no io_uring")
    assert after == child == errno.ENOSYS


DOORS = """
    import ctypes, errno, json, os
    from machine.process import _DOORS, _RESIZING, _ARCHITECTURES, confine, drop_privileges
    import platform
    place = _ARCHITECTURES.index(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    drop_privileges()
    confine(resizing={resizing})
    found = {{}}
    for name, numbers in {{**_DOORS, **_RESIZING}}.items():
        ctypes.set_errno(0)
        libc.syscall(numbers[place], -1, 0, 0, 0, 0)
        found[name] = errno.errorcode.get(ctypes.get_errno(), "done")
    print(json.dumps(found))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no table of system calls")
@pytest.mark.parametrize("resizing", [True, False])
def test_the_wide_doors_are_shut(resizing: bool):
    """Each door is "not there"; resizing is refused only where that is asked for."""
    found = json.loads(output(DOORS.format(resizing=resizing)))
    resize = {name: found.pop(name) for name in ("truncate", "ftruncate", "fallocate")}
    assert set(found.values()) == {"ENOSYS"}
    assert ("EPERM" in resize.values()) is not resizing
    assert resizing or set(resize.values()) == {"EPERM"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other set of numbers is 32-bit x86's")
def test_the_numbers_of_another_architecture_open_nothing(tmp_path: Path):
    """A filter that knows one set of numbers must refuse the other: int 0x80 takes 32-bit x86's."""
    code = """
        import ctypes, mmap
        from machine.process import confine, drop_privileges
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("53b814000000cd805bc3"))  # push rbx; mov eax, 20 (getpid); int 0x80; pop rbx; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        ask = ctypes.CFUNCTYPE(ctypes.c_int)(address)
        before = ask()
        drop_privileges()
        confine()
        print(before > 0, ask())
    """
    with python(code) as process:
        text, _ = process.communicate(timeout=20)
    if process.returncode:
        pytest.skip("this kernel has no 32-bit system calls, or no memory that is writable and executable")
    assert text.split() in (["True", str(-errno.ENOSYS)], ["False", str(-errno.ENOSYS)])


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become somebody else")
def test_a_role_starts_nothing_and_grows_nothing():
    """After its start a process cannot fork, start a thread, or write a file beyond the limit."""
    report = output("""
        import os, tempfile, threading
        from machine.process import drop_privileges, forbid
        file = tempfile.TemporaryFile()
        drop_privileges()
        forbid(4096)
        def attempt(action):
            try:
                action()
                return "done"
            except (OSError, RuntimeError) as error:
                return type(error).__name__
        fd = file.fileno()
        print(attempt(os.fork), attempt(threading.Thread(target=int).start), attempt(lambda: os.ftruncate(fd, 4096)),
              attempt(lambda: os.ftruncate(fd, 4097)), attempt(lambda: os.pwrite(fd, b"x", 4096)))
    """)
    assert report == "BlockingIOError RuntimeError done OSError OSError"


@pytest.mark.skipif(os.geteuid() != 0, reason="PID namespaces are root's")
def test_own_numbers():
    """What is started in the block is process 1 and takes its children along; the next one is an ordinary child."""
    report = output("""
        import os, subprocess, sys
        from machine.process import own_numbers
        child = "import os, subprocess; c = subprocess.Popen(['sleep', '60']); print(os.getpid(), flush=True); input()"
        words = [sys.executable, "-c", child]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with own_numbers():
            first = subprocess.Popen(words, **pipes)
        second = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
        number = int(first.stdout.readline())
        children = open(f"/proc/{first.pid}/task/{first.pid}/children").read().split()
        first.kill()
        first.wait()
        print(number, int(second.stdout) > 1, len(children), [os.path.exists(f"/proc/{pid}") for pid in children])
    """)
    assert report == "1 True 1 [False]"


def test_shorten_slice():
    """The kernel has the shorter slice; scheduling class and niceness are as before."""
    code = """
        import ctypes, struct
        from machine.process import shorten_slice
        print(shorten_slice(0))
        attributes = ctypes.create_string_buffer(56)
        ctypes.CDLL(None).syscall(315, 0, attributes, 56, 0)
        print(struct.unpack("=IIQiIQ", attributes.raw[:32]))
    """
    heard, attributes = output(code).splitlines()
    if platform.machine() != "x86_64" or tuple(map(int, platform.release().split(".")[:2])) < (6, 12):
        pytest.skip("needs Linux 6.12 on x86-64")
    assert heard == "True"
    assert attributes == str((56, os.SCHED_OTHER, 0, 0, 0, SHORT_SLICE_NS))


def test_shorten_slice_of_nobody():
    """A thread that does not exist, or any more, is no error."""
    assert not shorten_slice(2**31 - 1)


def test_pin():
    """The process runs on the CPUs that were named, and on those alone; none named leaves it where it is."""
    code = "import os; from machine.process import pin; pin(({},)); pin(()); print(sorted(os.sched_getaffinity(0)))"
    cpu = min(os.sched_getaffinity(0))
    assert output(code.format(cpu)) == f"[{cpu}]"


def test_pin_to_nowhere():
    """CPUs that do not exist are a ConfigError in one line."""
    with pytest.raises(ConfigError, match="cannot run on CPU 4096"):
        pin((4096,))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have something to drop")
def test_drop_privileges():
    """No uid 0, no group, no capability, and no way back by a set-uid program."""
    report = output("""
        import os
        from machine.process import drop_privileges
        drop_privileges()
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(os.getresuid(), os.getresgid(), os.getgroups(), status["CapEff"].strip(), status["NoNewPrivs"].strip())
    """)
    assert report == "(65534, 65534, 65534) (65534, 65534, 65534) [] 0000000000000000 1"


def test_drop_privileges_without_any():
    """An unprivileged process keeps its user; the way up is closed."""
    report = output("""
        import os
        from machine.process import drop_privileges
        if os.geteuid() == 0:
            os.setresuid(12345, 12345, 12345)
        before = os.getuid()
        drop_privileges()
        print(os.getuid() == before, "NoNewPrivs:\\t1" in open("/proc/self/status").read())
    """)
    assert report == "True True"


def test_die_with_parent():
    """When the parent is killed the child is gone, whatever it was doing."""
    with python("""
        import os, signal, time
        from machine.process import die_with_parent
        parent = os.pidfd_open(os.getpid())
        if os.fork() == 0:
            die_with_parent(parent)
            print(os.getpid(), flush=True)
            time.sleep(60)
        os.wait()
    """) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        deadline = time.monotonic() + 5
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_die_with_a_parent_that_is_gone():
    """A process whose parent ended before it asked ends at once."""
    with subprocess.Popen(["sleep", "0"]) as gone:
        fd = os.pidfd_open(gone.pid)
    code = f"from machine.process import die_with_parent; die_with_parent({fd}); print('alive')"
    with python(code, fds=(fd,)) as process:
        text, _ = process.communicate(timeout=20)
    os.close(fd)
    assert (process.returncode, text) == (1, "")


# -- the life of one process: record, ready, go, loop -------------------------------------------------------

ROLE = """
    import os, sys
    from machine.launch import run_role
    from machine.errors import SetupError

    def prepare(station):
        if station.settings.name == "bad":
            raise SetupError("no such thing")
        pages = (station.ram, station.gate, station.world, station.lance, station.counters)
        station.control.send({"event": "pages", "lengths": [len(page) for page in pages],
                              "bells": sorted(station.bells), "mac": station.mac})
        def loop():
            station.gate[layout_word] = 77
            station.control.send({"event": "looping", "uid": os.getuid()})
            station.control.receive()
        layout_word = 100
        return loop

    sys.exit(run_role(sys.argv[1], prepare))
"""


class Child:
    """A process of role ``role`` that starts from the record that the test sends it."""

    def __init__(self, role: str, settings: dict[str, Any]) -> None:
        self.control, there = Channel.pair()
        self.settings = make_settings({"ram_mib": 1}, settings)
        sizes = {"gate": layout.GATE_BYTES, "counters": layout.COUNTER_PAGE_BYTES}
        sizes |= {"ram": 1 << 20} if role != "vmm" else {}
        sizes |= {"world": layout.WORLD_BYTES} if role != "guest" else {}
        self.fds = {name: create(name, size) for name, size in sizes.items()}
        self.pipes = {name: signalpipe.make() for name in ("guest", "vmm", "vmapp")}
        if self.settings.doorbell == "signal":
            self.fds |= {bell(name): ends[name != role] for name, ends in self.pipes.items()}
        else:
            self.fds |= {bell(name): os.eventfd(0) for name in ("guest", "vmm", "vmapp")}
        self.fds |= {interrupt(name): ends[name != role] for name, ends in self.pipes.items()}
        self.fds["parent"] = os.pidfd_open(os.getpid())
        self.process = python(ROLE, role, str(there.fileno()), fds=(*self.fds.values(), there.fileno()))
        there.close()

    def record(self) -> dict[str, Any]:
        """The launch record, as the supervisor sends it."""
        return {
            "settings": self.settings.as_map(),
            "fds": self.fds,
            "semaphores": {},
            "mac": MAC,
        }

    def event(self) -> dict[str, Any]:
        """The next message."""
        message = self.control.receive(15)
        assert message is not None
        return message

    def close(self) -> None:
        """Ends the process and gives everything back."""
        self.process.kill()
        self.process.communicate()
        self.control.close()
        for fd in {*self.fds.values(), *(end for ends in self.pipes.values() for end in ends)}:
            os.close(fd)


@contextmanager
def child(role: str, **settings: Any) -> Iterator[Child]:
    """A started process, gone when the block ends."""
    made = Child(role, settings)
    try:
        yield made
    finally:
        made.close()


PAGES = {
    "guest": [1 << 20, layout.GATE_BYTES // 8, 0, 0],
    "vmm": [0, layout.GATE_BYTES // 8, layout.WORLD_BYTES // 8, (layout.WORLD_BYTES - layout.LANCE_OFFSET) // 4],
    "vmapp": [
        1 << 20,
        layout.GATE_BYTES // 8,
        layout.WORLD_BYTES // 8,
        (layout.WORLD_BYTES - layout.LANCE_OFFSET) // 4,
    ],
}


@pytest.mark.parametrize("role", PAGES)
@pytest.mark.parametrize("doorbell", ["eventfd", "signal", "spin"])
def test_a_process_starts(role: str, doorbell: str):
    """Record, ready, go, loop: the process maps exactly its role's pages and has its neighbours' bells."""
    with child(role, doorbell=doorbell) as made:
        made.control.send(made.record())
        pages = made.event()
        assert pages["lengths"] == [*PAGES[role], layout.COUNTER_PAGE_BYTES // 8]
        assert pages["bells"] == (["guest", "vmm"] if role == "guest" else ["guest", "vmapp", "vmm"])
        assert pages["mac"] == MAC
        assert made.event() == {"event": "ready"}
        made.control.send({"command": "go"})
        looping = made.event()
        assert looping["event"] == "looping"
        assert looping["uid"] == (65534 if os.geteuid() == 0 else os.getuid())
        assert psutil.Process(made.process.pid).name() == role
        assert psutil.Process(made.process.pid).cpu_affinity() == list(made.settings.cpus)


def test_a_failure_is_reported_in_one_line():
    """A deliberate failure while preparing: {"event": "failed"}, status 1, no traceback."""
    with child("vmm", name="bad") as made:
        made.control.send(made.record())
        assert made.event() == {"event": "failed", "message": "no such thing"}
        _, errors = made.process.communicate(timeout=15)
        assert (made.process.returncode, errors) == (1, "")


def test_pages_of_the_wrong_size_are_a_failure():
    """A gate page that is too small is found before anything runs."""
    with child("vmm") as made:
        os.ftruncate(made.fds["gate"], 64)
        made.control.send(made.record())
        failure = made.event()
        assert failure["event"] == "failed"
        assert "holds 64 bytes" in failure["message"]


@pytest.mark.parametrize("when", ["at once", "after the record"])
def test_a_supervisor_that_goes_away(when: str):
    """The other end closes before "go": status 1, in silence."""
    with child("vmm") as made:
        if when == "after the record":
            made.control.send(made.record())
            made.event()
            made.event()
        made.control.close()
        _, errors = made.process.communicate(timeout=15)
        assert (made.process.returncode, errors) == (1, "")


def test_the_terminals_signals_are_the_supervisors():
    """Ctrl-C, hang-up and Ctrl-Z, which reach the whole group, leave the process alone."""
    with child("vmm") as made:
        made.control.send(made.record())
        made.event()
        made.event()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
            made.process.send_signal(number)
        made.control.send({"command": "go"})
        assert made.event()["event"] == "looping"


def test_the_loop_shares_the_pages():
    """What the process stores in its gate page is seen by whoever has the descriptor."""
    with child("guest") as made:
        made.control.send(made.record())
        made.event()
        made.event()
        made.control.send({"command": "go"})
        made.event()
        assert int.from_bytes(os.pread(made.fds["gate"], 8, 800), "little") == 77
        poll = select.poll()
        poll.register(made.control.fileno(), select.POLLIN)
        assert not poll.poll(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a user namespace")
def test_no_user_to_become():
    """In a user namespace that maps root alone: one line that says what is missing, and no traceback."""
    report = output("""
        import ctypes, os
        from machine.errors import SetupError
        from machine.process import drop_privileges
        if ctypes.CDLL(None).unshare(0x10000000):
            print("cannot give up: no namespaces; map that user")
        else:
            with open("/proc/self/uid_map", "w") as file:
                file.write("0 0 1")
            try:
                drop_privileges()
            except SetupError as error:
                print(error)
    """)
    assert report.startswith("cannot give up")
    assert report.endswith("map that user and group") or "no namespaces" in report
    assert "\n" not in report
