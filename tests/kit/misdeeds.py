"""What a process that was taken over does with the descriptors and the rights that it has (``tests.kit.attack``).

Each is a function of ``station``, ``role`` and ``report`` that is sent as source, so it imports what it uses. They
leave descriptors 0 to 2 and the control channel alone where the attack is on something else, and signal nobody
outside their own stack: those are the children of their parent, and the parent.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "change_flags",
    "chatter",
    "close_all",
    "cut",
    "fill",
    "fork",
    "shut_down",
    "signal_everybody",
    "spoil_semaphores",
    "steal",
]


def change_flags(station: Any, _role: str, report: dict[str, Any]) -> None:
    """Every flag that fcntl() knows, on and off, on every descriptor; owners and signals of its choice; small pipes."""
    import fcntl
    import os
    import random
    import signal
    import time

    rng = random.Random(1)
    fds = sorted(set(station.fds.values()))
    pids = (os.getpid(), os.getppid(), 1, 0)
    deadline = time.monotonic() + 2.0
    done = 0
    while time.monotonic() < deadline:
        fd = rng.choice(fds)
        for command, value in (
            (fcntl.F_SETOWN, rng.choice(pids)),
            (fcntl.F_SETSIG, rng.choice((0, int(signal.SIGURG), int(signal.SIGWINCH), int(signal.SIGRTMIN)))),
            (fcntl.F_SETFL, rng.choice((0, os.O_NONBLOCK, os.O_APPEND, os.O_NONBLOCK | os.O_APPEND))),
            (1031, 4096),  # F_SETPIPE_SZ
            (fcntl.F_SETFD, 0),
        ):
            try:
                fcntl.fcntl(fd, command, value)
                done += 1
            except OSError:
                pass
        time.sleep(0.001)
    report["done"] = done


def fill(station: Any, _role: str, report: dict[str, Any]) -> None:
    """Everything that can be written to is written until it is full, again and again."""
    import os
    import time

    fds = sorted(set(station.fds.values()) - {station.fds.get("tap")})
    most = (2**64 - 2).to_bytes(8, "little")
    deadline = time.monotonic() + 2.0
    done = 0
    while time.monotonic() < deadline:
        for fd in fds:
            kind = os.readlink(f"/proc/self/fd/{fd}")
            if "eventfd" not in kind and "pipe" not in kind:
                continue
            try:
                os.set_blocking(fd, False)
                os.write(fd, most)
                done += 1
                os.write(fd, b"\x01" + bytes(7))
            except OSError:
                pass
            finally:
                os.set_blocking(fd, True)
        time.sleep(0.0005)
    report["done"] = done


def steal(station: Any, _role: str, report: dict[str, Any]) -> None:
    """Every ring that comes by is taken, whomever it was for."""
    import os
    import time

    fds = [fd for fd in set(station.fds.values()) if "eventfd" in os.readlink(f"/proc/self/fd/{fd}")]
    deadline = time.monotonic() + 2.0
    done = 0
    while time.monotonic() < deadline:
        for fd in fds:
            os.set_blocking(fd, False)
            try:
                os.read(fd, 8)
                done += 1
            except OSError:
                pass
        time.sleep(0)
    report["done"] = done


def spoil_semaphores(_station: Any, _role: str, report: dict[str, Any]) -> None:
    """Random bytes over every semaphore, the count and what glibc keeps beside it."""
    import ctypes
    import random
    import time

    rng = random.Random(2)
    with open("/proc/self/maps", encoding="ascii") as maps:
        places = [int(line.split("-")[0], 16) for line in maps if "sem.worldswitch" in line]
    report["done"] = len(places)
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        for place in places:
            ctypes.memmove(place, rng.randbytes(32), 32)
        time.sleep(0.0003)


def close_all(station: Any, _role: str, _report: dict[str, Any]) -> None:
    """Every descriptor but the standard ones, the control channel last."""
    import os

    control = station.control.fileno()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != control:
            try:
                os.close(int(name))
            except OSError:
                pass


def shut_down(station: Any, _role: str, report: dict[str, Any]) -> None:
    """Every socket, both ways, and the control channel after it."""
    import os
    import socket

    report["done"] = 0
    for fd in (*set(station.fds.values()), station.control.fileno()):
        if os.readlink(f"/proc/self/fd/{fd}").startswith("socket"):
            with socket.socket(fileno=os.dup(fd)) as end:
                end.shutdown(socket.SHUT_RDWR)
            report["done"] += 1


def signal_everybody(_station: Any, _role: str, report: dict[str, Any]) -> None:
    """Every signal to every process that it can name, one by one and all at once; what was refused is counted.

    Only where it is alone in a PID namespace: elsewhere "all" would be every process of user nobody.
    """
    import os
    import signal

    assert os.getpid() == 1, "not in a PID namespace of its own"
    refused = 0
    report["done"] = 0
    for pid in (-1, *range(3, 40000)):  # 2 is this thread
        for number in sorted(signal.valid_signals()) if pid < 100 else (signal.SIGKILL,):
            try:
                os.kill(pid, number)
                report["done"] += 1
            except OSError:
                refused += 1
    report["refused"] = refused


def fork(_station: Any, _role: str, report: dict[str, Any]) -> None:
    """A hundred children that keep every descriptor for three seconds, or until the process is gone."""
    import os
    import time

    report["done"] = 0
    parent = os.getpid()
    for _ in range(100):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            deadline = time.monotonic() + 3.0
            while time.monotonic() < deadline and os.getppid() == parent:
                time.sleep(0.05)
            os._exit(0)
        report["done"] += 1


def cut(station: Any, _role: str, report: dict[str, Any]) -> None:
    """Every page is cut to nothing and made large; "done" counts what the kernel let happen."""
    import ctypes
    import os

    report["done"] = 0
    libc = ctypes.CDLL(None, use_errno=True)
    for fd in sorted(set(station.fds.values())):
        for size in (1 << 33, 0, 4095):
            try:
                os.ftruncate(fd, size)
                report["done"] += 1
            except OSError:
                pass
        report["done"] += libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(1 << 20)) == 0  # punches a hole


def chatter(station: Any, _role: str, report: dict[str, Any]) -> None:
    """Messages of every kind to the supervisor, and prints, for two seconds and as fast as they are taken."""
    import os
    import select
    import time

    import msgpack

    control = station.control.fileno()
    maps = (
        {"event": "failed"},
        {"event": "failed", "message": 7},
        {"event": "notice", "message": "x" * 100_000},
        {"event": "notice", "message": "\x1b]0;owned\x07\x1b[2J\n" * 50},
        {"event": "set", "refused": {"a": 1}},
        {"event": ["running"]},
        {b"event": b"ready"},
        {"event": "running"},
        [],
        7,
    )
    packets = [
        *(msgpack.packb(each) for each in maps),
        b"\xc1",
        b"\x91" * 5000,
        b"\xdf\xff\xff\xff\xff",
        os.urandom(500),
    ]
    deadline = time.monotonic() + 2.0
    report["done"] = 0
    while time.monotonic() < deadline:
        for fd, data in (
            (control, packets[report["done"] % len(packets)]),
            (1, b"worldswitch: a forged line\n" * 1000),
        ):
            if select.select((), (fd,), (), 0.001)[1]:
                try:
                    report["done"] += os.write(fd, data) > 0
                except OSError:
                    pass
