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


IN_A_NAMESPACE = """
import ctypes, os, signal, sys
from netbackend.tap import enable_host_interrupts

def mapped(ready, told):
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
    os.write(ready, b"x")
    os.read(told, 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)

def supervise():
    read_end, write_end = os.pipe()
    ready, become = os.pipe()
    said, say = os.pipe()
    owner = os.fork()
    if owner == 0:
        os.setresuid(65534, 65534, 65534)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        os.write(become, b"x")
        os.write(say, b"came" if signal.sigtimedwait({signal.SIGIO}, 10) else b"lost")
        os._exit(0)
    os.read(ready, 1)
    enable_host_interrupts(read_end, owner)
    os.write(write_end, b"x")
    print(os.read(said, 4).decode(), flush=True)

reading, ready = os.pipe()
told, tell = os.pipe()
child = os.fork()
if child == 0:
    mapped(ready, told)
    supervise()
    os._exit(0)
os.read(reading, 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write("0 100000 65536")
os.write(tell, b"x")
os.waitpid(child, 0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to map users")
def test_interrupts_in_a_user_namespace_reach_another_user():
    """Where root is not the machine's root, the kernel drops its signals to nobody in silence; these arrive."""
    done = subprocess.run([sys.executable, "-c", IN_A_NAMESPACE], capture_output=True, text=True, timeout=30)
    if "AssertionError" in done.stderr:
        pytest.skip("this machine gives no user namespaces")
    assert (done.stdout, done.stderr) == ("came\n", "")
