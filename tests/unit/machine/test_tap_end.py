"""What a failed read or write of a TAP means: the end, or a frame lost."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from guest.drivers.pcnet import Pcnet
from machine.errors import NetworkError
from machine.tapend import end_if_gone
from tests.kit.barepc import BarePc
from vmapp.lance.port import TapPort

GONE = [errno.EBADFD, errno.ENODEV, errno.ENXIO]
LOST = [errno.EAGAIN, errno.EINVAL, errno.ENOBUFS, errno.EIO]


@pytest.mark.parametrize("number", GONE)
def test_errors_of_a_deleted_interface(number: int):
    """One line, which says whose TAP."""
    with pytest.raises(NetworkError, match=r"^the host TAP is gone: [^\n]*$"):
        end_if_gone(0, OSError(number, os.strerror(number)), "host")


@pytest.mark.parametrize("number", LOST)
def test_errors_of_an_interface_that_is_there(number: int):
    """Down, full, or not a frame: nothing ends."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        end_if_gone(near.fileno(), OSError(number, os.strerror(number)), "host")


def test_an_error_of_input_and_output_when_poll_says_that_it_is_over():
    """EIO is "down" as a rule, and the end where poll() reports an error or a hang-up as well."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    far.close()
    with near, pytest.raises(NetworkError, match="guest's TAP is gone"):
        end_if_gone(near.fileno(), OSError(errno.EIO, ""), "guest's")


def refuse(number: int):
    """A system call that fails so."""

    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", GONE)
def test_vmapp_ends(monkeypatch: pytest.MonkeyPatch, number: int):
    """Reading and writing, in one piece and in several."""
    port = TapPort(0)
    for name in ("write", "writev", "readv"):
        monkeypatch.setattr(os, name, refuse(number))
    for attempt in (
        lambda: port.send(memoryview(b"frame")),
        lambda: port.send([memoryview(b"frame")]),
        lambda: port.recv_into([memoryview(bytearray(10))]),
    ):
        with pytest.raises(NetworkError, match="host TAP is gone"):
            attempt()


@pytest.mark.parametrize("number", GONE)
def test_the_driver_ends(monkeypatch: pytest.MonkeyPatch, number: int):
    """When it takes a frame from its network stack, and when it hands one over."""
    with BarePc() as pc:
        chip: Pcnet = pc.chip
        pc.arrive(bytes(6) + bytes(60))
        pc.arrive(b"\xff" * 6 + bytes(60))
        monkeypatch.setattr(os, "readv", refuse(number))
        with pytest.raises(NetworkError, match="guest's TAP is gone"):
            chip.queue_from_stack()
        monkeypatch.setattr(os, "write", refuse(number))
        with pytest.raises(NetworkError, match="guest's TAP is gone"):
            chip.receive(10)


@pytest.mark.parametrize("number", LOST)
def test_the_driver_goes_on(monkeypatch: pytest.MonkeyPatch, number: int):
    """A stack that has nothing, or is down, gives no frame and takes none; both are counted or quiet."""
    with BarePc() as pc:
        pc.arrive(b"\xff" * 6 + bytes(60))
        monkeypatch.setattr(os, "readv", refuse(number))
        monkeypatch.setattr(os, "write", refuse(number))
        assert not pc.chip.queue_from_stack()
        assert pc.chip.receive(10) == 1
        assert pc.counter("guest_rx_errors") == 1
