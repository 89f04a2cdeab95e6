"""``worldswitch`` set, top, profile, registers on a stack that runs, as its user sees them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ET
from contextlib import contextmanager

import jsonschema
import pytest

from lab import cli, client, profilers
from lab.report import schema
from machine.errors import SetupError, StackError
from tests.kit.cli import COMMAND, alive, assert_one_line, record_of, status, up, worldswitch
from tests.kit.stack import eventually

NAME = f"live-{os.getpid()}"
PEER = "198.18.0.3"


@pytest.fixture(scope="module")
def record():
    """The record of a detached stack of the paper's profile, with one setting of ``up --set``."""
    with up(NAME, "--link", "none", "--set", "tick_ms=20") as made:
        yield made


def ping(*options):
    """Runs ping on the guest; its exit status."""
    return worldswitch("exec", "--name", NAME, "guest", "--", "ping", "-n", "-q", *options, PEER)


@contextmanager
def traffic():
    """The guest pings as quickly as it is answered while the block runs."""
    command = [*COMMAND, "exec", "--name", NAME, "guest", "--", "ping", "-n", "-q", "-f", "-w", "20", PEER]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)


def change(*words):
    """Runs ``set`` (in this process: that is quicker), which must succeed; the settings that are then on record."""
    assert cli.main(["set", "--name", NAME, *words]) == 0
    return record_of(NAME)["settings"]


def test_settings_change_while_frames_flow(record):
    """Every live setting is taken over and recorded, status shows it, and frames flow in each mode."""
    assert status(NAME)["settings"]["tick_ms"] == 20
    for mode in ("optimised", "combining", "ports", "2.0"):
        found = change(f"mode={mode}", "tick_ms=7")
        assert ping("-c", "3", "-i", "0.01").returncode == 0
        assert (found["mode"], found["tick_ms"]) == (mode, 7)
    change("ports=on", "combining=on", "notification=on", "combine_cap=4", "combine_threshold=9", "combine_decay=0.1")
    assert ping("-c", "2", "-i", "0.01").returncode == 0
    found = status(NAME)["settings"]
    assert (found["ports"], found["combining"], found["combine_cap"], found["combine_decay"]) == (True, True, 4, 0.1)
    assert change("mode=2.0", "hlt=vmm")["notification"] is None
    assert ping("-c", "2", "-i", "0.01").returncode == 0
    change("hlt=host")
    assert set(alive(record)) == {"guest", "vmm", "vmapp"}


def test_the_mode_that_was_set_is_the_one_that_works(record):
    """With ports handled in the vmm, RAP costs no trap; in mode 2.0 it does."""
    counts = {}
    for mode in ("2.0", "ports"):
        change(f"mode={mode}")
        before = rap_stores()
        assert ping("-c", "3", "-i", "0.01").returncode == 0
        counts[mode] = rap_stores() - before
    assert counts["2.0"] == 0
    assert counts["ports"] > 0


def rap_stores():
    """The counter of that name, now."""
    return client.request(NAME, {"command": "status"})["counters"]["rap_stores"]


def test_a_pulled_cable_stops_frames_until_it_is_plugged_in(record):
    """Without a cable pings are lost and status says so; with it they are answered again."""
    change("link=down")
    assert status(NAME)["cable"] is False
    assert ", cable pulled" in worldswitch("status", "--name", NAME).stdout
    assert ping("-c", "1", "-W", "0.3").returncode == 1
    change("link=up")
    assert ping("-c", "2", "-i", "0.05").returncode == 0


def test_the_wire_is_reshaped(record):
    """A slow wire makes a large packet, of five frames, late; none takes the limit away."""
    assert change("link=128kbit")["link"] == "128kbit"
    slow = ping("-c", "1", "-s", "7000", "-W", "5").stdout
    assert change("link=none")["link"] == "none"
    quick = ping("-c", "1", "-s", "7000", "-W", "5").stdout
    assert longest_ms(slow) > 200 > longest_ms(quick)
    jsonschema.validate(status(NAME), schema())


def longest_ms(output):
    """The longest round trip that ping reports."""
    return float(output.rsplit("=", 1)[1].split("/")[2])


def test_a_refused_change_changes_nothing(record, capsys):
    """A value that won't do is one line and status 2, whoever finds out; nothing of the request takes effect."""
    before = record_of(NAME)["settings"]
    for words in (("tick_ms=0",), ("mode=combining", "combine_cap=0"), ("mode=fast",), ("link=5bit",), ("posted=on",)):
        assert cli.main(["set", "--name", NAME, *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert record_of(NAME)["settings"] == before
    assert_one_line(worldswitch("set", "--name", "nowhere", "mode=2.0"), 1)


def test_registers_are_decoded(record):
    """The running chip's address, rings and CSR0 with its bits, as the driver has set them."""
    done = worldswitch("registers", "--name", NAME)
    assert done.returncode == 0
    text = done.stdout
    assert f"address   {mac_of_guest()}" in text
    assert "32 descriptors" in text
    assert any(line.startswith("CSR0 ") and "TXON" in line and "RXON" in line for line in text.splitlines())


def mac_of_guest():
    """The address of the virtual NIC."""
    from netbackend.plan import NetworkPlan

    return NetworkPlan(NAME).guest.mac


def test_top_shows_rates_once(record):
    """--once prints one plain block in which traffic, traps and the Lance's ports appear."""
    with traffic():
        done = worldswitch("top", "--name", NAME, "--once", "--interval", "0.5")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "Lance RDP" in done.stdout
    sent = next(line for line in done.stdout.splitlines() if line.startswith("sent"))
    assert int(sent.split()[1].replace(",", "")) > 10


def test_top_ends_cleanly_on_ctrl_c(record):
    """One block per interval; Ctrl-C is no failure."""
    with subprocess.Popen(
        [*COMMAND, "top", "--name", NAME, "--interval", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "ports by" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=5)
    assert (process.returncode, errors) == (0, "")


def test_top_ends_with_its_stack():
    """A stack that is taken down ends `top` with a line, not with a failure."""
    name = f"{NAME}-b"
    with up(name, "--link", "none"):
        process = subprocess.Popen(
            [*COMMAND, "top", "--name", name, "--interval", "0.2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        worldswitch("down", "--name", name)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert output.endswith(f"stack {name} has ended\n")


def test_a_flame_graph_of_three_processes(record, tmp_path):
    """One SVG with all three processes in it; the first line says what has sampled; the stack goes on."""
    try:
        means = profilers.choose(profiling=False)
    except SetupError as error:
        pytest.skip(str(error))
    with traffic():
        done = worldswitch(
            "profile", "1", "--name", NAME, "--output", "graph.svg", cwd=tmp_path, PYTHONPATH=os.getcwd()
        )
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert all(profiler.what in first for profiler in means)
    groups = ET.parse(tmp_path / "graph.svg").iter("{http://www.w3.org/2000/svg}g")
    names = {group.get("data-n") for group in groups}
    assert {"guest", "vmm", "vmapp"} <= names
    if any(profiler.sees_python for profiler in means):
        assert any("monitor.py" in name for name in names)
    assert set(alive(record)) == {"guest", "vmm", "vmapp"}
    assert ping("-c", "2", "-i", "0.01").returncode == 0


def test_without_a_profiler_there_is_one_line(record, tmp_path):
    """Neither py-spy nor perf: one line that says what to install."""
    python = tmp_path / "python"  # py-spy is looked for beside the interpreter
    python.symlink_to(os.path.realpath(shutil.which("python3") or "/usr/bin/python3"))
    code = f"import sys; sys.executable = {str(python)!r}; from lab.cli import main; sys.exit(main())"
    done = subprocess.run(
        [COMMAND[0], "-c", code, "profile", "1", "--name", NAME],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "worldswitch[profile]" in assert_one_line(done, 1)


@contextmanager
def stopped(pid):
    """The process is not scheduled while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("words", [("mode=optimised",), ("link=down",), ("link=10mbit", "tick_ms=3")])
def test_a_set_that_failed_is_not_carried_out_later(record, words, capsys):
    """A vmm that is stopped: one line; when it goes on, what runs is what status says, and that is what was before."""
    change("mode=2.0", "link=up", "link=none")
    before = status(NAME)
    with stopped(record["processes"]["vmm"]["pid"]):
        assert cli.main(["set", "--name", NAME, *words]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    stores = rap_stores()
    assert ping("-c", "3", "-i", "0.01").returncode == 0
    assert rap_stores() == stores  # mode 2.0 traps them all
    after = status(NAME)
    assert (after["settings"], after["cable"]) == (before["settings"], before["cable"])
    assert change("mode=ports")["mode"] == "ports"
    assert ping("-c", "2", "-i", "0.01").returncode == 0
    assert rap_stores() > stores


def test_a_second_trace_is_refused_and_the_first_is_whole(record, tmp_path):
    """Two traces at once: one line for the second; one whose recorder is killed is nobody's."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    words = [*COMMAND, "trace", "--name", NAME, "--seconds"]
    with subprocess.Popen([*words, "4", str(first)], stdout=subprocess.PIPE, text=True) as process:
        assert eventually(lambda: tracing(NAME), 20)
        done = worldswitch("trace", "--name", NAME, "--seconds", "1", str(second))
        assert "being recorded by another program" in assert_one_line(done, 1)
        said, _ = process.communicate(timeout=30)
    assert " events of 4.0" in said
    with subprocess.Popen([*words, "30", str(first)]) as process:
        assert eventually(lambda: tracing(NAME), 20)
        process.kill()
    done = worldswitch("trace", "--name", NAME, "--seconds", "0.5", str(second))
    assert (done.returncode, second.exists()) == (0, True)


def tracing(name):
    """Whether somebody traces the stack: then a stranger's request is refused."""
    try:
        client.request(name, {"command": "trace", "seconds": 0, "owner": {"pid": 0, "started": 0}})
    except StackError:
        return True
    return False
