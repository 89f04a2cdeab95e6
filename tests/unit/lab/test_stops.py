"""Which signals are requests to end, and what they do to who makes stacks and to who does not. No privilege."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from lab import cli
from lab.stops import Interruption, StopRequests, end_requests, exit_status_of, interruptible
from machine.errors import SignalledError

FATAL = (
    *("HUP", "INT", "QUIT", "TERM", "ABRT", "TRAP", "SYS", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "XCPU"),
    *("IO", "PWR", "STKFLT"),
)
"""What signal(7) says ends a process, but for faults, and for what Python ignores."""

NUMBERS = sorted({*(getattr(signal, f"SIG{name}") for name in FATAL), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)})


def test_every_signal_that_would_end_us_is_a_request():
    """All that signal(7) calls fatal, every real-time signal among them, and none that stops or is ignored."""
    assert end_requests() == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_any_of_them_is_noted(number):
    """Within the block the process lives on, and the exit status is the shell's for that signal."""
    with StopRequests() as stops:
        signal.raise_signal(number)
        assert stops.signal_number == number
        assert stops.exit_status == 128 + number


@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGCHLD, signal.SIGCONT, signal.SIGPIPE, signal.SIGURG])
def test_harmless_signals_are_no_requests(number):
    """A terminal that changes its size, or a child that ends, asks for nothing."""
    with StopRequests() as stops:
        signal.raise_signal(number)
        assert stops.signal_number == 0


def test_only_what_a_user_ends_it_by_is_no_failure():
    """Ctrl-C, kill and hang-up are how one ends a stack; any other signal is an error that names it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with StopRequests() as stops:
            signal.raise_signal(number)
            stops.check_usual()
    with StopRequests() as stops:
        signal.raise_signal(signal.SIGQUIT)
        with pytest.raises(SignalledError, match="SIGQUIT") as caught:
            stops.check_usual()
    assert caught.value.exit_status == 131


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_what_was_ignored_stays_ignored(number):
    """As nohup and a shell's & set it: neither a request nor an interruption, and ignored afterwards."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible(), StopRequests() as stops:
            signal.raise_signal(number)
            assert stops.signal_number == 0
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_impatience_does_not_interrupt_the_clean_up():
    """The first signal interrupts; those that follow it while things are being removed do not."""
    cleaned = []

    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGQUIT)
            cleaned.append(True)

    with interruptible(), pytest.raises(Interruption) as caught:
        work()
    assert cleaned == [True]
    assert exit_status_of(caught.value) == 143
    assert exit_status_of(KeyboardInterrupt()) == 130


def test_other_threads_may_run_commands():
    """Python sets signal handlers in the main thread only; elsewhere the block does nothing."""
    found = []

    def inside():
        with interruptible():
            found.append(threading.current_thread())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [thread]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGRTMIN + 2])
def test_a_command_that_is_interrupted_says_so(number):
    """One line and the shell's status, for whatever signal; `finally` blocks have run by then."""
    program = (
        "import os, sys, time; from lab import cli; from lab.commands import status\n"
        "def run(args):\n"
        "    try: print('there', flush=True); time.sleep(30)\n"
        "    finally: print('cleaned')\n"
        "status.run = run\n"
        "sys.exit(cli.main(['status']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(number)
        out, errors = process.communicate(timeout=10)
    assert (process.returncode, out, errors) == (128 + number, "cleaned\n", "worldswitch: interrupted\n")


def test_handlers_are_given_back():
    """After a command the process has the handlers that it had before."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    assert cli.main(["set", "mode"]) == 2
    assert {number: signal.getsignal(number) for number in NUMBERS} == before
