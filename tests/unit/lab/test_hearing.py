"""What less trusted processes say to their keeper: never believed, never without a limit, never an exception."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.child import Child
from lab.client import _exchange
from lab.clients import MOST_CLIENTS, SILENT_SECONDS, Clients
from lab.hearing import BURST, CHUNK_BYTES, LONGEST_LINE, PER_SECOND, Allowance, Printed, text_of
from lab.stack import Stack
from lab.voices import Voices
from machine.config import make_settings
from machine.control import Channel
from machine.errors import ControlError

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=10,
)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.dictionaries(st.text() | st.binary(), ANYTHING) | st.builds(dict, message=ANYTHING))
def test_text_is_one_printable_line(message: dict[Any, Any]) -> None:
    """Whatever a message holds, what is taken from it is printable, of one line, and short."""
    text = text_of(message, "message")
    assert text.isprintable()
    assert len(text) <= LONGEST_LINE


def test_an_allowance_grows_again() -> None:
    """A burst, then nothing, then as much as time has given back; ``spent`` does not flutter."""
    clock = Clock()
    allowance = Allowance(clock)
    assert [allowance.take() for _ in range(BURST + 5)] == [True] * BURST + [False] * 5
    assert allowance.spent
    clock.now += 1.1 / PER_SECOND
    assert allowance.spent  # one line would do, but then it would be spent again
    clock.now += BURST
    assert not allowance.spent
    assert allowance.take()


@contextmanager
def printed() -> Iterator[tuple[Printed, int]]:
    """The keeper's end, and the process's."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pipe = Printed(reader)
    try:
        yield pipe, writer
    finally:
        pipe.close()
        os.close(writer)


def test_printed_lines_are_whole() -> None:
    """A line that comes in pieces is one line; blank ones count as lines, but not as last words."""
    with printed() as (pipe, writer):
        assert pipe.lines() == []
        os.write(writer, b"Traceback:\n  File")
        assert pipe.lines() == ["Traceback:"]
        os.write(writer, b" x\nKeyError: 1\x1b[2J\n\n")
        assert pipe.lines() == ["  File x", "KeyError: 1[2J", ""]
        assert pipe.last == "KeyError: 1[2J"


@given(st.lists(st.binary(max_size=3000), max_size=20))
def test_whatever_is_printed_is_cut_to_size(pieces: list[bytes]) -> None:
    """Any bytes in any pieces: printable lines of bounded length, and a bounded memory."""
    with printed() as (pipe, writer):
        for piece in pieces:
            os.write(writer, piece)
            for line in pipe.lines():
                assert line.isprintable()
                assert len(line) <= 2 * LONGEST_LINE
            assert len(pipe._begun) <= 4 * LONGEST_LINE


def test_a_role_that_floods_is_not_read() -> None:
    """Notices and prints without end: a burst is shown, then one line that says so, and the role has to wait."""
    here, there = Channel.pair()
    said: list[str] = []
    with printed() as (pipe, writer):
        voices = Voices({"guest": here}, {"guest": pipe}, said.append)
        os.set_blocking(writer, False)
        for _ in range(3 * BURST):
            with suppress(ControlError):  # its socket is full: it would have to wait
                there.send({"event": "notice", "message": "help\n" * 100}, timeout=0.001)
            os.write(writer, b"!\n")
            for fd in voices.fds:
                voices.read(fd)
        assert len(said) == BURST + 1
        assert said[-1].startswith("guest says too much")
        assert voices.muted
        assert voices.fds == []
    here.close()
    there.close()


@given(st.lists(ANYTHING, max_size=5))
def test_no_message_ends_the_keeper(messages: list[Any]) -> None:
    """Maps, and what is no map, with anything in them: heard or not, but without an exception."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    voices = Voices({"vmm": Channel(here)}, {}, lambda _line: None)
    for message in messages:
        there.send(msgpack.packb(message))
    for _ in messages:
        for fd in voices.fds:
            voices.read(fd)
    here.close()
    there.close()


@given(st.binary(max_size=100))
def test_no_bytes_end_the_keeper(packet: bytes) -> None:
    """The same for what is not msgpack at all."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    voices = Voices({"vmm": Channel(here)}, {}, lambda _line: None)
    there.send(packet)
    voices.read(here.fileno())
    here.close()
    there.close()


@contextmanager
def served(path: str, clock: Clock) -> Iterator[Clients]:
    """The keeper's side of a control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as listener:
        listener.bind(path)
        clients = Clients(listener, clock)
        yield clients
        clients.close()


def connect(path: str) -> Channel:
    """A client's side."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    return Channel(connection)


def answer(_message: dict[str, Any]) -> dict[str, Any]:
    """What every request gets."""
    return {"event": "fine"}


def test_silent_clients_lose_their_places(tmp_path: Any) -> None:
    """Sixteen say nothing: the next is told "busy"; when their time is over it is served, and they are hung up on."""
    path, clock = str(tmp_path / "s"), Clock()
    with served(path, clock) as clients:
        silent = [connect(path) for _ in range(MOST_CLIENTS)]
        for _ in silent:
            clients.serve(clients.fds[0], answer)
        assert 0 < (clients.seconds_left() or 0) <= SILENT_SECONDS
        late = connect(path)
        late.send({"command": "status"})
        clients.serve(clients.fds[0], answer)
        told = late.receive(1.0)
        assert told is not None
        assert "busy" in told["message"]
        clock.now += SILENT_SECONDS
        clients.drop_silent()
        assert silent[0].receive(1.0) is None
        again = connect(path)
        again.send({"command": "status"})
        clients.serve(clients.fds[0], answer)
        clients.serve(clients.fds[1], answer)
        assert again.receive(1.0) == {"event": "fine"}
        for client in (*silent, late, again):
            client.close()


def test_why_a_process_ends_is_known_when_it_has_ended() -> None:
    """It says why and ends a moment later: what was heard before its end is in the line about its end."""
    here, there = Channel.pair()
    stack = Stack(make_settings({}), -1, -1, bytes(6))
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]) as process:
        stack._children["vmapp"] = Child("vmapp", process, here, os.pidfd_open(process.pid))
        there.send({"event": "failed", "message": "the host's TAP is gone"})
        Voices(stack.controls, {}, pytest.fail, stack.hear).read(here.fileno())
        process.wait()
    there.close()
    assert stack.died() == f"process vmapp (pid {process.pid}) ended with status 1: the host's TAP is gone"
    stack.close()


def test_busy_is_heard_by_whoever_comes_too_late_to_ask() -> None:
    """A supervisor that says "busy" and hangs up before the request is out is not one that is just ending."""
    here, there = Channel.pair()
    there.send({"event": "failed", "message": "busy"})
    there.close()
    assert _exchange(here, {"command": "status"}) == {"event": "failed", "message": "busy"}
    with pytest.raises(ControlError):  # nothing more is said
        _exchange(here, {"command": "status"})
    here.close()


def test_a_connection_that_cannot_be_taken_is_no_reason_to_spin(tmp_path: Any) -> None:
    """Without a descriptor to spare the listener rests, is then polled again, and serves who has waited."""
    path, clock = str(tmp_path / "s"), Clock()
    with served(path, clock) as clients:
        client = connect(path)
        client.send({"command": "status"})
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            clients.serve(clients.fds[0], answer)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert clients.fds == ()
        clock.now += clients.seconds_left() or 0
        clients.drop_silent()
        for _ in range(2):
            clients.serve(clients.fds[-1], answer)
        assert client.receive(1.0) == {"event": "fine"}
        client.close()


def test_an_answer_that_cannot_be_carried_is_said(tmp_path: Any) -> None:
    """A value beyond 64 bits, which a role can put into its counters: the client reads one line, the keeper lives."""
    path = str(tmp_path / "s")
    with served(path, Clock()) as clients:
        client = connect(path)
        client.send({"command": "status"})
        clients.serve(clients.fds[0], answer)
        clients.serve(clients.fds[1], lambda _message: {"event": "status", "counter": 1 << 64})
        told = client.receive(1.0)
        assert told is not None
        assert told["event"] == "failed"
        client.close()


def test_a_chunk_at_a_time() -> None:
    """A process that has filled its pipe is read in bounded pieces, so that others get their turn."""
    with printed() as (pipe, writer):
        os.set_blocking(writer, False)
        os.write(writer, b"x\n" * CHUNK_BYTES)
        assert len(pipe.lines()) <= CHUNK_BYTES // 2
