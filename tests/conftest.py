"""What all tests share: integration tests are marked, skipped where they cannot run, and checked for leftovers."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

INTEGRATION = Path(__file__).parent / "integration"
NETNS_DIR = Path("/run/netns")
SHM_DIR = Path("/dev/shm")
SHM_PREFIXES = ("worldswitch", "ws-", "sem.worldswitch", "sem.ws-")
TOKEN = "WORLDSWITCH_TEST_TOKEN"
GRACE_S = 2.0
"""How long what a test has asked to end may take to be gone."""


def pytest_configure() -> None:
    """What the tests start has default dispositions, also under nohup or behind a shell's ``&``.

    An ignored signal is inherited by every program; a caught one, even if the handler does nothing, by none.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def why_not_integration() -> str | None:
    """The reason why integration tests cannot run here; None if they can."""
    if os.geteuid() != 0:
        return "needs root (network namespaces, TAPs)"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun (modprobe tun)"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything under tests/integration; WORLDSWITCH_REQUIRE_INTEGRATION=1 turns the skip into a failure."""
    reason = None if os.environ.get("WORLDSWITCH_REQUIRE_INTEGRATION") == "1" else why_not_integration()
    for item in items:
        if INTEGRATION not in item.path.parents:
            continue
        item.add_marker(pytest.mark.integration)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def names_in(directory: Path, prefixes: tuple[str, ...]) -> set[str]:
    """Paths of the directory's entries that are named like ours; empty if there is no such directory."""
    try:
        return {str(directory / name) for name in os.listdir(directory) if name.startswith(prefixes)}
    except FileNotFoundError:
        return set()


def processes_of(token: str) -> set[str]:
    """Living descendants of this process, and orphans of theirs: those whose environment carries the token."""
    own = psutil.Process()
    descendants = own.children(recursive=True)
    orphans = [process for process in psutil.process_iter() if process != own and _carries(process, token)]
    return {text for process in (*descendants, *orphans) if (text := _describe(process)) is not None}


def _carries(process: psutil.Process, token: str) -> bool:
    try:
        return process.environ().get(TOKEN) == token
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str | None:
    """Number and name of a process; None once it has ended."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else f"process {process.pid} ({process.name()})"
    except psutil.Error:
        return None


def footprint(token: str) -> set[str]:
    """Everything in sight that a stack could leave behind: namespaces, shared memory, processes."""
    return names_in(NETNS_DIR, ("ws-",)) | names_in(SHM_DIR, SHM_PREFIXES) | processes_of(token)


@contextmanager
def no_leftovers(grace_s: float = GRACE_S) -> Iterator[None]:
    """Fails if, after ``grace_s`` seconds at most, more is there than was there on entry."""
    token = secrets.token_hex(8)
    outer = os.environ.get(TOKEN)
    os.environ[TOKEN] = token
    before = footprint(token)
    try:
        yield
    finally:
        os.environ.pop(TOKEN)
        if outer is not None:
            os.environ[TOKEN] = outer
    deadline = time.monotonic() + grace_s
    while left := footprint(token) - before:
        if time.monotonic() >= deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _clean_after(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every integration test has to leave the machine as it found it."""
    if request.node.get_closest_marker("integration") is None:
        yield
        return
    with no_leftovers():
        yield
