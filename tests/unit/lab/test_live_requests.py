"""Requests to running processes: refused when late, recorded when carried out late, never mixed up. No privilege."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from lab.child import Child, reap
from lab.livechange import CABLE
from lab.liveset import set_live
from lab.requests import Requests, seconds_left
from lab.stack import Stack
from lab.tracing.switch import TraceService
from machine.config import Settings
from machine.control import Channel
from machine.errors import ConfigError, ProcessDiedError, SetupError, StackError
from machine.lance.state import LINK_UP
from machine.livecontrol import UNTIL, LiveControl

PROCESS = """
import signal, sys, time
from machine.control import Channel
from machine.launch import SETTINGS_SIGNAL
from machine.livecontrol import LiveControl
def take(value):
    if value == "bad": raise TypeError("bad")
    print(value, flush=True)
    if isinstance(value, dict) and value["tick_ms"] == 77: time.sleep(2)
handlers = {key: take for key in ("settings", "cable", "trace")}
control = Channel.from_fd(int(sys.argv[1]))
live = LiveControl(control, handlers)
signal.signal(SETTINGS_SIGNAL, lambda *_: live.apply_waiting())
control.send({"event": "ready"})
while True: signal.pause()
"""


class Roles(Stack):
    """A stack whose processes take live messages over, and do nothing else. ``said``: what each has taken over."""

    def __init__(self, *roles):
        super().__init__(Settings(), -1, -1, bytes(6))
        for role in roles:
            here, there = Channel.pair()
            process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdout=subprocess.PIPE,
            )
            there.close()
            self._children[role] = Child(role, process, here, os.pidfd_open(process.pid))
        for role in roles:
            self.ask(role, "ready", 20.0)

    @property
    def lance(self):
        """A chip whose cable is plugged in."""
        words = memoryview(bytearray(4 * 256)).cast("I")
        words[LINK_UP] = 1
        return words

    def signal(self, role, number):
        """Sends the process a signal."""
        signal.pidfd_send_signal(self.pidfds[role], number)

    def trace_fds(self):
        """No buffers."""
        return {}

    def taken(self):
        """What the processes have printed until now; they are ended for it."""
        children = self._children
        reap(children.values(), 1.0)
        return {role: child.process.stdout.read().decode().splitlines() for role, child in children.items()}


@pytest.fixture
def roles():
    """Makes such a stack."""
    made = []

    def make(*names):
        made.append(Roles(*names))
        return made[-1]

    yield make
    for stack in made:
        for child in stack._children.values():
            child.process.kill()
            child.process.communicate()
            child.control.close()


def test_a_message_after_its_time_is_refused():
    """What comes when nobody waits for it any more is not carried out; what comes in time is."""
    supervisor, process = Channel.pair()
    taken = []
    live = LiveControl(process, {"settings": taken.append})
    supervisor.send({"settings": 1, "request": 7, UNTIL: time.monotonic_ns() - 1})
    supervisor.send({"settings": 2, "request": 8, UNTIL: time.monotonic_ns() + 10**10})
    live.apply_waiting()
    late, good = supervisor.receive(1), supervisor.receive(1)
    assert (late["request"], "refused" in late) == (7, True)
    assert (good["request"], "refused" in good) == (8, False)
    assert taken == [2]
    supervisor.close()
    process.close()


def test_a_request_that_failed_is_not_carried_out_later(roles):
    """A process that is stopped: an error; when it goes on, it changes nothing, and the next request works."""
    stack = roles("vmm")
    stack.signal("vmm", signal.SIGSTOP)
    with pytest.raises(StackError, match="vmm has not taken it over"):
        stack.tell("vmm", {"cable": "late"}, None, 0.2)
    stack.signal("vmm", signal.SIGCONT)
    stack.tell("vmm", {"cable": "next"})
    assert stack.taken() == {"vmm": ["next"]}


def test_what_is_carried_out_late_is_recorded(roles):
    """Between its look at the clock and its answer a process may take any time: then the record follows."""
    stack, noted = roles("vmm"), []
    slow = Settings(tick_ms=77)
    with pytest.raises(StackError):
        stack.tell("vmm", {"settings": slow.as_map()}, lambda: noted.append("slow"), 0.5)
    assert noted == []
    stack.tell("vmm", {"cable": "next"})
    assert noted == ["slow"]


def test_an_answer_belongs_to_its_request():
    """Late answers are not the next one's; numbers that a process makes up, or another's, do nothing."""
    requests, noted = Requests(), []

    def tell(late, answers):
        left = iter(answers)

        def expect(_deadline):
            try:
                return next(left)
            except StopIteration:
                time.sleep(0.02)
                raise ProcessDiedError("time is over") from None

        requests.tell("vmm", {}, late, 0.01, sent.append, lambda: None, expect)

    sent = []
    with pytest.raises(StackError):
        tell(lambda: noted.append(1), [])
    requests.note("vmapp", {"event": "set", "request": 1})
    requests.note("vmm", {"event": "set", "request": 99})
    requests.note("vmm", {"event": "set", "request": "1"})
    assert noted == []
    tell(lambda: noted.append(2), [{"request": 1}, {"request": 2}])
    assert noted == [1]
    requests.note("vmm", {"event": "set", "request": 1})
    with pytest.raises(ConfigError, match="no"):
        tell(None, [{"request": 77}, {"request": 3, "refused": "no"}])
    assert noted == [1]
    assert [message["request"] for message in sent] == [1, 2, 3]


def test_a_client_that_has_given_up_is_not_served():
    """A request has until its client is told that it failed; none is begun after that."""
    assert seconds_left({}, 5.0) == 5.0
    assert seconds_left({UNTIL: time.monotonic_ns() + 10**9}, 5.0) == pytest.approx(1.0, abs=0.5)
    assert seconds_left({UNTIL: time.monotonic_ns() - 10**9}, 5.0) < 0
    with pytest.raises(StackError, match="busy"):
        Requests().tell("vmm", {}, None, -1.0, lambda _: None, lambda: None, lambda _: {})


def attempt(function, *arguments):
    """As the supervisor's, but a failure is a failure of the test."""
    function(*arguments)


def test_what_cannot_be_recorded_is_taken_back(roles):
    """A full disk at the moment of recording: the vmm has its old settings and cable again."""
    stack = roles("vmm")

    def note(_settings):
        raise SetupError("no space left")

    request = {"changes": {"tick_ms": 7, CABLE: False}}
    with pytest.raises(SetupError):
        set_live(request, stack, Settings(), {}, note, attempt)
    taken = stack.taken()["vmm"]
    assert ["'tick_ms': 7" in taken[0], taken[1]] == [True, "False"]
    assert ["'tick_ms': 10" in taken[2], taken[3]] == [True, "True"]


def test_a_wire_without_an_end_is_no_new_setting(roles):
    """The link fails, so the vmm is never told; nothing is recorded."""
    stack, noted, put_back = roles("vmm"), [], []
    network = {"stack": "x", "namespaces": []}
    with pytest.raises(StackError):
        set_live(
            {"changes": {"tick_ms": 7, "link": "1mbit"}},
            stack,
            Settings(),
            network,
            noted.append,
            lambda *words: put_back.append(words),
        )
    assert (noted, len(put_back)) == ([], 1)
    assert stack.taken() == {"vmm": []}


def test_one_trace_at_a_time(roles):
    """A second client is refused while the first traces, and serves when it has ended, is over time, or is dead."""
    stack, service = roles("guest", "vmm", "vmapp"), TraceService()
    me, other = ({"pid": os.getpid(), "started": started} for started in (_started(), 1))
    service.serve({"seconds": 0, "owner": other}, stack)
    service.serve({"seconds": 5, "owner": me}, stack)
    for seconds in (0, 1):
        with pytest.raises(StackError, match="a trace of this stack is being recorded"):
            service.serve({"seconds": seconds, "owner": other}, stack)
    assert service.serve({"seconds": 0, "owner": me}, stack)["ended"] <= time.monotonic_ns()
    service.serve({"seconds": 5, "owner": other}, stack)  # whose process is not there (any more)
    service.serve({"seconds": 5, "owner": me}, stack)
    assert all(len(said) == 4 for said in stack.taken().values())


def _started():
    from lab.processes import identify

    return identify(os.getpid())["started"]


def test_a_trace_that_not_all_take_part_in_does_not_begin(roles, monkeypatch):
    """A stopped process: an error within the client's patience, the others are told to stop, the stack is free."""
    monkeypatch.setattr("lab.tracing.switch.ANSWER_SECONDS", 0.4)
    stack, service = roles("guest", "vmm"), TraceService()
    stack.signal("vmm", signal.SIGSTOP)
    with pytest.raises(StackError, match="vmm has not taken it over"):
        service.serve({"seconds": 1, "owner": None}, stack)
    stack.signal("vmm", signal.SIGCONT)
    service.serve({"seconds": 1, "owner": {"pid": 1, "started": 0}}, stack)
    taken = stack.taken()
    assert [word == "0" for word in taken["guest"]] == [False, True, False]
    assert [word == "0" for word in taken["vmm"]] == [False]
