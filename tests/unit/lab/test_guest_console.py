"""Commands for a stock guest, with the guest's real end of the channel: its script, on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import guestconsole
from lab.guestconsole import GuestConsole, channel_options, connected
from machine.errors import GuestError

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "guest" / "channel"


class Port:
    """What QEMU is between a unix socket and a serial port: bytes, both ways; nobody connected, and they are lost."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "channel.sock"
        self.master, self.terminal = pty.openpty()
        self._listener = socket.create_server(str(self.path), family=socket.AF_UNIX)
        self._over, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client = None
        while True:
            sources = [self._over, self.master, self._listener if client is None else client]
            ready = select.select(sources, [], [])[0]
            if self._over in ready:
                break
            if self._listener in ready:
                client, _ = self._listener.accept()
            if self.master in ready:
                data = os.read(self.master, 4096)
                if client is not None:
                    client.sendall(data)
            if client is not None and client in ready:
                data = client.recv(4096)
                if data:
                    os.write(self.master, data)
                else:
                    client.close()
                    client = None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Ends the connection, as QEMU does when it ends."""
        os.write(self._wake, b"x")
        self._thread.join()
        self._listener.close()
        for fd in (self.master, self.terminal, self._over, self._wake):
            os.close(fd)


@contextmanager
def guest(folder: Path, port: Port) -> Iterator[None]:
    """The guest's script on the port."""
    with subprocess.Popen(
        ["sh", str(SCRIPT), str(folder)], stdin=port.terminal, stdout=port.terminal, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture
def port(tmp_path) -> Iterator[Port]:
    """A serial port with nobody at the guest's end yet."""
    made = Port(tmp_path)
    yield made
    made.close()


@pytest.fixture
def console(tmp_path, port) -> Iterator[GuestConsole]:
    """A console with a guest at its other end."""
    with guest(tmp_path, port), connected(port.path, 10) as made:
        yield made


def test_command_has_status_and_output(console):
    """Status and output of a command, both streams, several lines, and nothing of the command before it."""
    assert console.run("echo one; echo two >&2; exit 3") == (3, "one\ntwo\n")
    assert console.run("true") == (0, "")


def test_output_may_look_like_an_answer(console):
    """What a command prints is taken by its length, whatever it looks like."""
    assert console.run("echo @ready; echo @1 0 5; printf '@7 0 '").output == "@ready\n@1 0 5\n@7 0 "


def test_command_may_be_anything(console):
    """Quotes, dollars, several lines, other alphabets: the guest's shell gets what was written."""
    assert console.check("""x='a "b" $c'\nprintf '%s|é' "$x" """) == 'a "b" $c|é'


def test_long_output_arrives_whole(console):
    """Far more than a serial port's buffers hold."""
    assert console.check("head -c 200000 /dev/zero | tr '\\0' x") == "x" * 200000


def test_command_that_takes_too_long_is_killed(console):
    """With all that it has started; the channel goes on."""
    assert console.run("sleep 60 & sleep 60", 0.3).status == 137
    with pytest.raises(GuestError, match=r"took longer than 0\.3 s"):
        console.check("sleep 60", 0.3)
    assert console.check("echo still here") == "still here\n"


def test_failure_is_one_line(console):
    """A command that fails is named, with its status and its last words."""
    with pytest.raises(GuestError, match=r"'echo no >&2; false': status 1: no$"):
        console.check("echo no >&2; false")


def test_nothing_of_the_output_acts_on_a_terminal(console):
    """Escapes, C1 controls and what turns the direction of writing are left out; lines and tabs stay."""
    assert console.check("printf 'a\\tb\\033]0;x\\007\\n\\302\\233c\\342\\200\\256d\\r\\n'") == "a\tb]0;x\ncd\n"


def test_a_channel_that_takes_no_connection_is_given_up(tmp_path, monkeypatch):
    """A QEMU that was stopped has a full queue: an error in time. A link in its folder is not followed."""
    monkeypatch.setattr(guestconsole, "_GRACE_SECONDS", 0.2)
    path = tmp_path / "busy"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        (tmp_path / "link").symlink_to(path)
        for each in (path, tmp_path / "link"):
            with pytest.raises(GuestError, match="no command channel"):
                GuestConsole(each)


def test_silent_guest_is_given_up(port):
    """Nobody there: an error within the time that was allowed, not a wait for ever."""
    with pytest.raises(GuestError, match="not there after"), connected(port.path, 0.3):
        pass


def test_guest_that_comes_later_is_waited_for(tmp_path, port):
    """The console may be there before its guest has started."""
    console = GuestConsole(port.path)
    with guest(tmp_path, port):
        console.wait_ready(10)
        assert console.check("echo here") == "here\n"
    console.close()


def test_restart_is_told_from_an_answer(tmp_path, port):
    """A guest that starts anew while a command runs answers nothing any more: that is an error."""
    with guest(tmp_path, port), connected(port.path, 10) as console:
        os.write(port.terminal, b"@ready\n")
        with pytest.raises(GuestError, match="started anew"):
            console.run("true")


def test_end_of_the_guest_is_an_error(tmp_path, port):
    """QEMU's end ends the wait for an answer."""
    with guest(tmp_path, port), connected(port.path, 10) as console:
        threading.Timer(0.2, lambda: os.write(port._wake, b"x")).start()
        with pytest.raises(GuestError, match="the guest has ended"):
            console.run("sleep 5", 5)


def test_nobody_listens(tmp_path):
    """No socket at that path: one line."""
    with pytest.raises(GuestError, match="no command channel"):
        GuestConsole(tmp_path / "absent")


def test_commas_in_paths_are_qemus_doubled():
    """QEMU splits options at commas; in a path they are doubled."""
    assert "path=/tmp/a,,b," in channel_options(Path("/tmp/a,b"))[1]
