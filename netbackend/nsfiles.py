"""The files that named network namespaces are mounted on, in a directory that is shared with iproute2 and others.

iproute2 makes /run/netns a mount of its own, bound on itself and shared, the first time that it adds a namespace, so
that namespaces made in one mount namespace are seen in all. Whatever had been mounted below /run/netns by then lies
*under* the new mount: unmounting by path takes the copy off and not the original, and the file stays busy for ever. So
the first namespace of ours does what iproute2's would have done, in the same order and under the same lock; and a file
that is busy all the same, since somebody has mounted something over it, is removed in a mount namespace in which
nothing covers it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final

from machine.errors import NetworkError, StackError
from netbackend.libc import CLONE_NEWNS, MS_BIND, MS_PRIVATE, MS_REC, MS_SHARED, call, mount, unmount
from netbackend.refusal import refusal

__all__ = ["DIRECTORY", "is_mounted", "is_namespace", "path", "remove", "reserve"]

DIRECTORY: Final = "/run/netns"

_OWN: Final = "/proc/self/ns/net"
_LOCK_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01
_MOST_MOUNTS: Final = 64  # on one file; each copy of a mount that propagation has made is one more


def path(name: str) -> str:
    """The file that holds namespace ``name``; opening it gives a descriptor for ``setns``."""
    return f"{DIRECTORY}/{name}"


def is_namespace(device: int) -> bool:
    """Whether a file on that device is a namespace, and not the empty file that one was, or is to be, mounted on."""
    return os.stat(_OWN).st_dev == device


def reserve(name: str) -> None:
    """Makes the file for namespace ``name``. O_EXCL decides between two that want one name.

    StackError if it is there, SetupError without privilege, NetworkError for anything else.
    """
    _prepare()
    try:
        os.close(os.open(path(name), os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        raise StackError(f"network namespace {name} exists already; run `worldswitch down` first") from None
    except OSError as error:
        raise refusal(f"create network namespace {name}", error.errno) from None


def remove(name: str) -> bool:
    """Unmounts whatever is mounted on the file of namespace ``name``, and removes the file; whether it was there.

    NetworkError or SetupError, one line, if the kernel refuses.
    """
    file = path(name)
    _uncover(file)
    try:
        there = _unlink(file)
        if is_mounted(name):
            _unlink_below(name)
            there = True
    except OSError as error:
        raise refusal(f"remove network namespace {name}", error.errno) from None
    return there


def is_mounted(name: str) -> bool:
    """Whether anything is mounted on the file of namespace ``name``, where it can be seen or below another mount.

    Below a mount over DIRECTORY, that is. What lies below one over /run is another /run's, whose namespaces may well
    have the same names (``unshare --mount`` and a tmpfs, as services have it) and are none of ours.
    """
    file, mounts = path(name).encode(), _mounts()
    layers = _layers(mounts)
    for parent, point in mounts.values():
        if point != file:
            continue
        while parent in mounts and mounts[parent][1] == file:  # mounted over each other
            parent = mounts[parent][0]
        if parent in layers:
            return True
    return False


def _mounts() -> dict[int, tuple[int, bytes]]:
    """The calling thread's mounts: number -> (number of the mount it is on, mount point). See proc(5)."""
    with open("/proc/thread-self/mountinfo", "rb") as file:
        lines = [line.split(b" ", 5) for line in file]
    return {int(line[0]): (int(line[1]), line[4]) for line in lines}


def _layers(mounts: Mapping[int, tuple[int, bytes]]) -> set[int]:
    """The mounts over DIRECTORY, from the one that is seen to the lowest, and the one that all of them are on."""
    try:
        fd = os.open(DIRECTORY, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return set()
    try:
        with open(f"/proc/thread-self/fdinfo/{fd}") as file:
            number = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    found = {number}
    while number in mounts and mounts[number][1] == DIRECTORY.encode():
        number = mounts[number][0]
        found.add(number)
    return found


def _unlink(file: str) -> bool:
    """False if there is no such file, True if it is gone now, or busy."""
    try:
        os.unlink(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    return True


def _uncover(file: str) -> int:
    """Takes off every mount on ``file``; how many there were. EINVAL, "not a mount point", is how that ends."""
    for count in range(_MOST_MOUNTS):
        try:
            unmount(file)
        except OSError:
            return count
    return _MOST_MOUNTS


def _unlink_below(name: str) -> None:
    """Removes a file on which a namespace is mounted where no path leads, below a mount over its directory.

    The kernel refuses to unlink a mount point of the caller's own mount namespace, and only of that: elsewhere, what
    is mounted on a file goes with the file. So a thread takes a copy of all mounts, takes apart what is over the
    file there, layer by layer, and unlinks it; the hidden mount goes with it here too. The copy ends with the thread.
    """
    file = path(name)

    def inside() -> None:
        call("unshare", CLONE_NEWNS)
        mount("none", "/", "none", MS_REC | MS_PRIVATE)  # nothing of the following is seen outside
        _uncover(file)
        while not _unlink(file) or is_mounted(name):  # the layer on top is not the last
            try:
                unmount(DIRECTORY)
            except OSError:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from None
            _uncover(file)

    with ThreadPoolExecutor(1, "unlink") as pool:
        pool.submit(inside).result()


def _prepare() -> None:
    """Has DIRECTORY there, as a shared mount of its own: what iproute2's ip/ipnetns.c does before its first one."""
    try:
        with suppress(FileExistsError):
            os.makedirs(DIRECTORY)
        with _locked():
            try:
                mount("", DIRECTORY, "none", MS_SHARED | MS_REC)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                mount(DIRECTORY, DIRECTORY, "none", MS_BIND | MS_REC)  # EINVAL: it is no mount point yet
                mount("", DIRECTORY, "none", MS_SHARED | MS_REC)
    except OSError as error:
        raise refusal(f"keep network namespaces in {DIRECTORY}", error.errno) from None


@contextmanager
def _locked() -> Iterator[None]:
    """The lock that iproute2 takes as well: two that find no mount would each add one, the second over the first's."""
    fd = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + _LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise NetworkError(f"{DIRECTORY} is locked by another program (flock); see `lslocks`") from None
                time.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(fd)
