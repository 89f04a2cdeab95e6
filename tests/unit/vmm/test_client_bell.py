"""The doorbell of a vmm with a foreign guest: what ends its sleep, and what that says of the client."""

from __future__ import annotations

import os
import select
import signal

import pytest

from machine import layout
from machine.ring import FREE, POSTED
from vmm.foreign.bell import ClientBell, signal_pipe

LONG = 30.0


@pytest.fixture
def gate():
    """The page with the trap slots."""
    return memoryview(bytearray(layout.GATE_BYTES)).cast("Q")


@pytest.fixture
def client():
    """The client's descriptor, and the end that makes it readable."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.fixture
def bell(gate, client):
    """The bell as a vmm has it: it watches a client, and hears of signals that have a handler."""
    signals = signal_pipe()
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    fd = os.eventfd(0)
    bell = ClientBell(fd, gate, signals)
    bell.watch(client[:1])
    yield bell
    signal.signal(signal.SIGUSR2, before)
    for end in (fd, signals, signal.set_wakeup_fd(-1)):
        os.close(end)


@pytest.mark.parametrize("seconds", [LONG, None])
def test_a_signal_before_the_sleep_ends_it(bell, seconds):
    """A signal whose time to be handled was before the sleep began: it is no reason to sleep on, nor a request."""
    signal.raise_signal(signal.SIGUSR2)
    assert bell.sleep(seconds)
    assert not bell.wanted
    assert not bell.sleep(0.001), "it is told once"


def test_a_signal_during_a_world_switch(bell, gate):
    """The same while vmapp has the processor; vmapp is not told of a client that wants nothing."""
    signal.raise_signal(signal.SIGUSR2)
    bell.wait(gate, 0, 0)
    assert gate[0] == FREE


def test_a_client_is_no_signal(bell, gate, client):
    """A client's message is: what the sleep was for; news for vmapp, if it has the processor."""
    os.write(client[1], b"x")
    assert bell.sleep(LONG)
    assert bell.wanted
    bell.wait(gate, 0, 0)
    assert gate[0] == POSTED


def test_a_client_and_a_signal_at_once(bell, client):
    """Neither hides the other, nor a ring."""
    os.write(client[1], b"x")
    signal.raise_signal(signal.SIGUSR2)
    bell.ring()
    assert bell.look()
    os.read(client[0], 1)
    assert not bell.look()
    assert not bell.sleep(0.001)


def test_more_signals_than_the_pipe_holds(bell, capfd):
    """The pipe runs full without a word, and the sleep ends all the same."""
    for _ in range(select.PIPE_BUF * 17):
        signal.raise_signal(signal.SIGUSR2)
    assert bell.sleep(LONG)
    assert capfd.readouterr() == ("", "")
