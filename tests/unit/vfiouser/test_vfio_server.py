"""The server: clients that come, go, are refused and come back; the socket's file; what is logged."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import stat
import time
from pathlib import Path

import pytest

from machine.errors import ConfigError, SetupError, StackError
from tests.kit.vfioclient import VfioClient, encode, refused
from tests.kit.vfiodevice import ServedDevice, open_descriptors
from vmm.vfiouser import server, surplus
from vmm.vfiouser.listen import MAX_PATH_BYTES, listen
from vmm.vfiouser.messages import PAGE, Command, HeaderFlag, IrqAction, IrqData


def test_second_client_is_refused(served: ServedDevice, client: VfioClient) -> None:
    """A second client is told that the device is busy, and then closed; the first does not notice."""
    for _ in range(3):
        second = served.connect()
        refused(errno.EBUSY, second.version)
        with pytest.raises(ConnectionError):
            second.receive()
    assert len([line for line in served.log if "second" in line]) == 1
    assert client.device_info()


def test_second_clients_hold_nothing_up(
    served: ServedDevice, client: VfioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent ones, half a message, nonsense, a hundred at once: the first is served, and all are gone in the end."""
    before = open_descriptors()
    greeting = encode(Command.VERSION, bytes(4))
    seconds = []
    for data in (b"", greeting[:7], greeting[:18], bytes(16), greeting[:16] + b"x", b"\xff" * 5000):
        seconds.append(served.connect())
        seconds[-1].send_bytes(data)
        served.pump()
        assert client.device_info()
    seconds += [served.connect() for _ in range(100)]
    assert client.device_info()
    due = served.server.due_in()
    assert due is not None
    assert due <= surplus.PATIENCE_SECONDS
    assert len(served.server.descriptors) <= 2 + 4
    monkeypatch.setattr(surplus, "monotonic", lambda: time.monotonic() + surplus.PATIENCE_SECONDS)
    served.pump()
    assert served.server.due_in() is None
    for second in seconds:
        second.close()
    assert open_descriptors() == before


def test_a_second_client_in_two_pieces_is_answered(served: ServedDevice, client: VfioClient) -> None:
    """The answer comes when the whole message has come, descriptors and all, which are closed."""
    second = served.connect()
    greeting = encode(Command.VERSION, bytes(4), ident=77)
    second.send_bytes(greeting[:10], [0])
    served.pump()
    second.send_bytes(greeting[10:], [0, 0])
    reply = second.receive()
    assert (reply.ident, reply.command, reply.errno) == (77, Command.VERSION, errno.EBUSY)
    assert reply.flags == HeaderFlag.REPLY | HeaderFlag.ERROR


def test_a_client_that_does_not_greet_makes_way(served: ServedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has connected and says nothing is dropped after a while, and the next one is served."""
    silent = served.connect()
    assert served.server.connected
    monkeypatch.setattr(server, "monotonic", lambda: time.monotonic() + 5.1)
    assert served.server.due_in() == 0.0
    with pytest.raises(ConnectionError):
        silent.receive()
    monkeypatch.undo()
    greeted = served.greet()
    assert served.server.due_in() is None
    assert greeted.device_info()


def test_a_client_that_goes_leaves_nothing(served: ServedDevice, client: VfioClient, eventfd: int) -> None:
    """Device reset, no windows, no trigger, no mask, no descriptor; the next client starts from there."""
    client.write(0, 0, b"mine")
    client.map(0, PAGE, None)
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.EVENTFD | IrqAction.UNMASK, fds=[eventfd])
    client.set_irqs(IrqData.NONE | IrqAction.MASK)
    client.close()
    assert (served.device.resets, served.device.windows) == (1, [])
    assert served.server.descriptors == (served.server.descriptors[-1],)
    assert not served.server.interrupt.masked
    successor = served.greet()
    assert successor.read(0, 0, 4) == bytes(4)
    served.server.interrupt.set_level(1)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(eventfd)


def test_a_hundred_clients(served: ServedDevice) -> None:
    """Clients come and go without anything growing."""
    served.greet().close()
    before = open_descriptors()
    for _ in range(100):
        served.greet().close()
    assert open_descriptors() == before


def test_messages_before_the_end_count(served: ServedDevice, client: VfioClient) -> None:
    """What a client sent before it went is still carried out, replies or not."""
    client.post(0, 0, b"x")
    client.send(Command.DEVICE_RESET, flags=HeaderFlag.NO_REPLY)
    client.close()
    assert served.device.writes == 1
    assert served.device.resets == 2


def test_a_client_gone_before_its_reply(served: ServedDevice, client: VfioClient) -> None:
    """A reply that nobody takes ends the connection and raises nothing."""
    client.send(Command.DEVICE_RESET)
    client.close()
    assert not served.server.connected


def test_descriptors_become_readable(served: ServedDevice) -> None:
    """Whatever there is to do shows in poll(), and ``changed`` says when to look at the descriptors anew."""

    def ready() -> list[int]:
        return select.select(served.server.descriptors, [], [], 0)[0]

    assert not ready()
    client = served.connect(pump=False)
    changed = served.server.changed
    assert ready()
    served.pump()
    assert served.server.changed > changed
    assert not ready()
    client.send(Command.VERSION)
    assert ready()
    served.pump()
    changed = served.server.changed
    client.connection.close()
    assert not served.server.connected
    served.pump()
    assert not ready()


def test_errors_while_a_client_ends(served: ServedDevice, client: VfioClient) -> None:
    """A device that cannot be reset costs a line of the log, not the server."""
    client.map(0, PAGE, None)
    served.device.failure = errno.EIO
    client.close()
    assert [line for line in served.log if "after the client" in line]
    assert served.device.windows == []
    assert served.greet().device_info()


def test_log_is_not_the_clients(served: ServedDevice, client: VfioClient) -> None:
    """However many messages are refused, each kind costs one line, and one connection a bounded number."""
    for number in range(300):
        with pytest.raises(OSError):
            client.read(0, 100 + number, 1)
        for command in (number + 100, number % 19):
            if command != Command.DEVICE_RESET:
                with pytest.raises(OSError):
                    client.call(command)
    assert len(served.log) <= 18
    assert all("\n" not in line for line in served.log)


def test_no_descriptor_left_for_a_client(served: ServedDevice, client: VfioClient) -> None:
    """When this process can open nothing more, a second client is not accepted, and poll() does not spin on it."""
    second = served.connect(pump=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        served.pump()
        assert not select.select(served.server.descriptors, [], [], 0)[0]
        assert client.device_info()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.close()
    assert second.version()


def test_closing(served: ServedDevice, client: VfioClient) -> None:
    """A server that closes ends its client, and the device is left as after any client."""
    served.server.close()
    assert served.device.resets == 1
    with pytest.raises(ConnectionError):
        client.receive()
    with pytest.raises(ConnectionRefusedError):
        VfioClient.connect(served.path)


# -- the listening socket -----------------------------------------------------------------------------------


def test_only_the_owner_may_connect(served: ServedDevice) -> None:
    """The socket's file has mode 0600, whatever the umask."""
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600


def test_a_living_server_is_not_pushed_away(served: ServedDevice) -> None:
    """A path that somebody listens at is refused in one line, and that server lives on."""
    with pytest.raises(StackError, match="in use by a living server"):
        listen(served.path)
    served.pump()
    assert served.greet().device_info()


def test_a_living_server_with_a_full_queue(tmp_path: Path) -> None:
    """A server too busy to accept is living all the same."""
    path = tmp_path / "busy"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(os.fspath(path))
        busy.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(os.fspath(path))
            with pytest.raises(StackError):
                listen(path)


def test_a_dead_servers_socket_is_replaced(tmp_path: Path) -> None:
    """A file that a server left behind makes way."""
    path = tmp_path / "socket"
    listen(path).close()
    assert path.is_socket()
    listen(path).close()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_other_files_stay(tmp_path: Path, make: object) -> None:
    """Anything that is no socket is not touched."""
    path = tmp_path / "file"
    make(path)
    with pytest.raises(ConfigError, match="is no socket"):
        listen(path)
    assert os.path.lexists(path)


@pytest.mark.parametrize("length", [0, MAX_PATH_BYTES + 1, 5000])
def test_paths_that_do_not_fit(length: int) -> None:
    """A path longer than the kernel's is a clear line, not a cut name."""
    name = Path("/" + "x" * (length - 1)) if length else Path("\0")
    with pytest.raises(ConfigError, match="socket path"):
        listen(name)


def test_longest_path(tmp_path: Path) -> None:
    """A path of exactly the longest length works."""
    path = tmp_path / ("x" * (MAX_PATH_BYTES - len(os.fspath(tmp_path)) - 1))
    listen(path).close()
    assert path.is_socket()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """What the kernel refuses is one line."""
    with pytest.raises(SetupError, match="cannot listen"):
        listen(tmp_path / "nowhere" / "socket")
