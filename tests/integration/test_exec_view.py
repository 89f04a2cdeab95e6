"""What a program sees that ``exec`` starts, and what it is given: its machine's /sys and names, and our streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from netbackend.libc import CLONE_NEWNS, MS_PRIVATE, MS_REC, call, mount
from netbackend.plan import NetworkPlan
from netbackend.view import hosts_text
from tests.kit.cli import COMMAND, names_of, up, worldswitch

NAME = f"view-{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def record():
    """A detached stack."""
    with up(NAME, "--link", "none") as made:
        yield made


def on(machine, *words, **options):
    """What a program on the machine prints; it must succeed."""
    done = worldswitch("exec", "--name", NAME, machine, "--", *words, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stack_with_mounts_of_its_own_is_within_reach():
    """Started in a mount namespace of its own, as a service may be: exec finds its machines all the same."""
    name = f"{NAME}-m"
    words = [*COMMAND, "up", "--detach", "--link", "none", "--name", name]

    def inside():
        call("unshare", CLONE_NEWNS)
        mount("none", "/", "none", MS_REC | MS_PRIVATE)
        return subprocess.run(words, capture_output=True, text=True)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(inside).result()
    try:
        assert done.returncode == 0, done.stderr
        done = worldswitch("exec", "--name", name, "peer", "--", "cat", "/sys/class/net/eth0/address")
        assert (done.stdout.strip(), done.stderr) == (NetworkPlan(name).peer.mac, "")
    finally:
        assert worldswitch("down", "--name", name).returncode == 0
    assert names_of(name) == set()


@pytest.mark.parametrize("machine", ["guest", "host", "peer", "native"])
def test_sys_is_the_machines_own(machine):
    """/sys/class/net has the links of that machine, with their addresses, and no others."""
    station = NetworkPlan(NAME).stations[machine]
    links = on(machine, "ls", "/sys/class/net").split()
    assert station.interface in links
    assert set(links) == set(on(machine, sys.executable, "-c", LINKS).split())
    assert on(machine, "cat", f"/sys/class/net/{station.interface}/address").strip() == station.mac


LINKS = "import socket; print(*(name for _, name in socket.if_nameindex()))"


def test_what_is_mounted_in_sys_is_still_there():
    """Control groups and whatever else: the program sees the mount points that we see."""
    with open("/proc/self/mountinfo") as file:
        ours = {line.split()[4] for line in file if line.split()[4].startswith("/sys/")}
    theirs = {line.split()[4] for line in on("guest", "cat", "/proc/self/mountinfo").splitlines()}
    assert ours <= theirs


def test_machines_have_names():
    """`ping peer` works on the guest, and localhost is what it was."""
    assert on("guest", "getent", "hosts", "peer").split()[0] == "198.18.0.3"
    assert on("peer", "getent", "hosts", "native").split()[0] == "198.18.0.4"
    here = subprocess.run(["getent", "hosts", "localhost"], capture_output=True, text=True).stdout
    assert on("guest", "getent", "hosts", "localhost") == here
    assert "1 received" in on("host", "ping", "-c", "1", "-W", "5", "peer")


def test_nothing_of_it_is_seen_outside():
    """Neither while it runs nor afterwards: our mounts and our /etc/hosts are as they were."""
    with open("/etc/hosts") as hosts, open("/proc/self/mountinfo") as mounts:
        before = hosts.read(), mounts.read()
    with subprocess.Popen(
        [*COMMAND, "exec", "--name", NAME, "guest", "--", "sh", "-c", "echo there; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with open("/etc/hosts") as hosts, open("/proc/self/mountinfo") as mounts:
            assert (hosts.read(), mounts.read()) == before
        process.communicate(b"\n")


def test_streams_status_folder_and_environment_are_ours(tmp_path):
    """As of a program that was started here: standard input, exit status, working directory, variables."""
    done = subprocess.run(
        [*COMMAND, "exec", "--name", NAME, "guest", "--", "sh", "-c", "cat; pwd; echo $COLOUR; exit 7"],
        input="from here\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"COLOUR": "green", "PYTHONPATH": os.getcwd()},
    )
    assert (done.returncode, done.stdout) == (7, f"from here\n{tmp_path}\ngreen\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1])
def test_signals_are_the_programs_own(number):
    """A program has the default dispositions, whatever this command has caught while it looked for the stack."""
    code = f"import signal, time; print(signal.getsignal({int(number)}), flush=True); time.sleep(30)"
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL  # Python's own, for SIGINT
    words = [*COMMAND, "exec", "--name", NAME, "peer", "--", sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(str(default).split(" at ")[0])
        process.send_signal(number)
        assert process.wait(10) == -number


def test_the_first_line_with_a_name_is_ours():
    """A machine whose own /etc/hosts knows a peer already: the stack's comes first, and nothing is lost."""
    text = hosts_text("127.0.0.1 localhost\n10.0.0.1 peer\n", {"peer": "198.18.0.3"}, "x")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == [["198.18.0.3", "peer"], ["127.0.0.1", "localhost"], ["10.0.0.1", "peer"]]
