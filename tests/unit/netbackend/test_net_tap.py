"""TAP: names and errors, without privilege; what the data path imports."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from machine.errors import ConfigError, NetworkError, SetupError
from netbackend import tap


@pytest.mark.parametrize("name", ["", "tap%d", "a/b", "0123456789abcdef", "a b", "tap0\n", "-x", "\0"])
def test_a_name_the_kernel_would_misread_never_reaches_it(name):
    """Bad interface names, templates included, are refused before /dev/net/tun is opened."""
    with pytest.raises(ConfigError, match="interface name"):
        tap.open_tap(name)


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOENT, SetupError, "modprobe tun"),
        (errno.ENODEV, SetupError, "modprobe tun"),
        (errno.EACCES, SetupError, "run as root"),
        (errno.EPERM, SetupError, "run as root"),
    ],
)
def test_a_device_that_does_not_open_is_explained(monkeypatch, number, kind, hint):
    """Whatever keeps /dev/net/tun from opening, the line says what to do."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tap.os, "open", refuse)
    with pytest.raises(kind, match=hint) as caught:
        tap.open_tap("tap0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EPERM, SetupError, "run as root"),
        (errno.EBUSY, NetworkError, "in use"),
        (errno.EINVAL, NetworkError, "not a TAP"),
        (errno.ENOMEM, NetworkError, "tap0"),
    ],
)
def test_a_refused_attach_is_explained_and_leaks_nothing(monkeypatch, number, kind, hint):
    """Each refusal of TUNSETIFF has its line, and the descriptor is closed."""
    read_end, write_end = os.pipe()

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tap, "_open_device", lambda _: write_end)
    monkeypatch.setattr(tap.fcntl, "ioctl", refuse)
    with pytest.raises(kind, match=hint):
        tap.open_tap("tap0")
    os.close(read_end)
    with pytest.raises(OSError):
        fcntl.fcntl(write_end, fcntl.F_GETFD)


def test_interrupts_for_a_process_that_is_not_there_are_refused_and_left_off():
    """A wrong pid is a NetworkError, and the descriptor raises no signals afterwards."""
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(NetworkError, match="process"):
            tap.enable_host_interrupts(read_end, 2**22 + 1)  # PID_MAX_LIMIT is 2**22
        assert not fcntl.fcntl(read_end, fcntl.F_GETFL) & os.O_ASYNC
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_data_path_does_not_load_the_netlink_library():
    """Importing netbackend.tap loads neither pyroute2 nor ctypes nor asyncio."""
    program = "import sys, netbackend.tap; print(*{'pyroute2', 'ctypes', 'asyncio'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
