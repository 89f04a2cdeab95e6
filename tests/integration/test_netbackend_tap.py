"""TAPs as the kernel has them: attaching, interrupts, names of namespaces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from machine.errors import NetworkError, StackError
from netbackend import links, namespaces
from netbackend.linkwatch import LinkWatch
from netbackend.mtuguard import MtuGuard
from netbackend.plan import NetworkPlan
from netbackend.tap import disable_host_interrupts, enable_host_interrupts, identity_of, interface_of, open_tap
from netbackend.topology import build
from tests.kit.spaces import one_namespace
from tests.kit.stack import eventually

BROADCAST = b"\xff" * 6 + b"\x02\x57\x53\0\0\x01" + b"\x88\xb5" + bytes(46)

WAITER = """
import signal, sys
number = int(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, [number, signal.SIGURG])
print("ready", flush=True)
for timeout in (5, 0.3):
    found = signal.sigtimedwait([number, signal.SIGURG], timeout)
    print(found.si_signo if found else "none", flush=True)
"""


@pytest.fixture
def namespace():
    """The name of a namespace that exists for one test."""
    with one_namespace("tap") as name:
        yield name


@pytest.fixture
def other_namespace():
    """One more."""
    with one_namespace("tap2") as name:
        yield name


def test_one_tap_has_one_owner(namespace):
    """A second attach is a NetworkError that says the TAP is in use; after close it works again."""
    first = namespaces.run(namespace, lambda: open_tap("tap7"))
    with pytest.raises(NetworkError, match="tap7 is in use"):
        namespaces.run(namespace, lambda: open_tap("tap7"))
    os.close(first)
    os.close(namespaces.run(namespace, lambda: open_tap("tap7")))


def test_a_name_that_belongs_to_another_link_is_refused(namespace):
    """Loopback is no TAP, and the message says so."""
    with pytest.raises(NetworkError, match="lo exists and is not a TAP"):
        namespaces.run(namespace, lambda: open_tap("lo"))


def test_whose_tap_it_is(namespace):
    """From a descriptor alone: the interface's name and its namespace; of a descriptor that is no TAP, an error."""
    fd = namespaces.run(namespace, lambda: open_tap("tap7"))
    name, inside = interface_of(fd)
    found = os.fstat(inside)
    assert (name, (found.st_dev, found.st_ino)) == ("tap7", namespaces.identity(namespace))
    assert namespaces.run_in(inside, lambda: socket.if_nametoindex("tap7")) > 0
    for descriptor in (fd, inside):
        os.close(descriptor)
    with open(os.devnull) as nothing, pytest.raises(NetworkError, match="find the TAP's interface"):
        interface_of(nothing.fileno())


def mtu_of(index):
    """A link's MTU, in the calling thread's namespace."""
    watch = LinkWatch(index)
    try:
        return watch.look().mtu
    finally:
        watch.close()


def test_a_guarded_interface_keeps_its_limit_whatever_it_is_called(namespace):
    """Too large an MTU is set back at once, a smaller one stays; a new name changes nothing, and close ends it."""

    def change(**attributes):
        with links.session() as connection:
            connection.link("set", index=index, **attributes)

    fd = namespaces.run(namespace, lambda: open_tap("tap7"))
    index = namespaces.run(namespace, lambda: socket.if_nametoindex("tap7"))
    namespaces.run(namespace, lambda: change(mtu=9000))
    guard = namespaces.run(namespace, lambda: MtuGuard("tap7", 1500))
    try:
        for attributes, expected in (({}, 1500), ({"mtu": 1000}, 1000), ({"ifname": "new", "mtu": 65000}, 1500)):
            namespaces.run(namespace, lambda attributes=attributes: change(**attributes))
            assert eventually(lambda expected=expected: namespaces.run(namespace, lambda: mtu_of(index)) == expected)
    finally:
        guard.close()
        guard.close()
    namespaces.run(namespace, lambda: change(mtu=2000))
    assert namespaces.run(namespace, lambda: mtu_of(index)) == 2000
    os.close(fd)


def test_nothing_to_guard(namespace):
    """An interface that is not there cannot be guarded."""
    with pytest.raises(NetworkError, match="look tap9 up"):
        namespaces.run(namespace, lambda: MtuGuard("tap9", 1500))


def test_nonblocking_is_what_was_asked_for(namespace):
    """O_NONBLOCK is set by default and not otherwise; no descriptor survives an exec."""
    for wanted in (True, False):
        fd = namespaces.run(namespace, lambda wanted=wanted: open_tap("tap7", nonblocking=wanted))
        assert os.get_blocking(fd) is not wanted
        assert not os.get_inheritable(fd)
        os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGIO, signal.SIGRTMIN + 3])
def test_a_waiting_frame_interrupts_the_process_named(number):
    """The kernel signals the other process, not this one, when a frame reaches the TAP, and not once switched off."""
    command = [sys.executable, "-c", WAITER, str(int(number))]
    with (
        build(NetworkPlan(f"i{os.getpid()}"), None) as network,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiter,
    ):
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "ready\n"
        enable_host_interrupts(network.host_tap, waiter.pid, number)
        host = network.plan.host.namespace
        namespaces.run(host, lambda: broadcast("br0"))
        assert waiter.stdout.readline() == f"{int(number)}\n"
        disable_host_interrupts(network.host_tap)
        namespaces.run(host, lambda: broadcast("br0"))
        assert waiter.stdout.readline() == "none\n"


def broadcast(interface):
    """Sends one broadcast frame from an interface of the calling thread's namespace."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        sender.send(BROADCAST)


def test_iproute2_would_list_the_namespace(namespace):
    """The name is a mounted namespace under /run/netns, which is all that `ip netns` looks at."""
    with open("/proc/self/mountinfo") as file:
        mounts = [line for line in file if f"/run/netns/{namespace} " in line]
    assert len(mounts) == 1
    assert " - nsfs " in mounts[0]


def test_run_leaves_the_caller_where_it_was(namespace):
    """What runs inside sees only loopback, up; the caller's own namespace doesn't change; errors come through."""
    outside = os.readlink("/proc/self/ns/net")
    assert namespaces.run(namespace, interfaces) == ["lo"]
    with pytest.raises(ZeroDivisionError):
        namespaces.run(namespace, lambda: 1 // 0)
    assert os.readlink("/proc/self/ns/net") == outside


def interfaces():
    """The interfaces of the calling thread's namespace."""
    with open("/proc/thread-self/net/dev") as file:
        return [line.split(":")[0].strip() for line in file.readlines()[2:]]


def test_a_child_enters_a_namespace_before_it_execs(namespace):
    """Entering moves the calling process for good: the program it becomes is inside."""
    program = (
        f"import os; from netbackend.namespaces import enter; enter({namespace!r}); "
        "os.execv('/bin/cat', ['cat', '/proc/self/net/dev'])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(found.stdout.splitlines()) == 3


def test_namespaces_are_made_once_and_removed_once(namespace):
    """A taken name is a StackError; removing is idempotent and heeds the identity."""
    made = namespaces.identity(namespace)
    with pytest.raises(StackError, match="exists already"):
        namespaces.create(namespace)
    assert not namespaces.remove(namespace, (0, 0))
    assert namespaces.identity(namespace) == made
    assert namespaces.remove(namespace, made)
    assert not namespaces.remove(namespace)
    with pytest.raises(StackError, match="no network namespace"):
        namespaces.enter(namespace)


def test_an_interface_that_comes_back_under_another_index_is_found_again(namespace, other_namespace):
    """Moved to where its index is taken and back: both watch and guard follow; a link of its name is not it."""

    def change(here, index, **attributes):
        def set_it():
            with links.session() as connection:
                connection.link("set", index=index, **attributes)

        namespaces.run(here, set_it)

    def index_of(here, name):
        return namespaces.run(here, lambda: socket.if_nametoindex(name))

    fd = namespaces.run(namespace, lambda: open_tap("tap7"))
    first = index_of(namespace, "tap7")
    taken = [namespaces.run(other_namespace, lambda n=n: open_tap(f"tap{n}")) for n in range(first)]
    watch = namespaces.run(namespace, lambda: LinkWatch(first, lambda: identity_of(fd)))
    guard = namespaces.run(namespace, lambda: MtuGuard("tap7", 1500))
    try:
        assert watch.look().index == first
        change(namespace, first, net_ns_fd=other_namespace)
        impostor = namespaces.run(namespace, lambda: open_tap("tap7"))
        assert watch.look() is None or watch.look().mac != identity_of(fd)[1]
        os.close(impostor)
        assert watch.look() is None
        second = index_of(other_namespace, "tap7")
        change(other_namespace, second, net_ns_fd=namespace)
        now = index_of(namespace, "tap7")
        assert now != first
        assert eventually(lambda: (news := watch.look()) is not None and news.index == now)
        assert watch.groups() is not None
        change(namespace, now, mtu=9000)
        assert eventually(lambda: namespaces.run(namespace, lambda: mtu_of(now)) == 1500)
    finally:
        guard.close()
        watch.close()
        for descriptor in (fd, *taken):
            os.close(descriptor)
