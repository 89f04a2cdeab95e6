"""``worldswitch serve``: the NIC alone on its real network, with a scripted client as its guest."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import processes
from machine.config import MODES
from netbackend.plan import NetworkPlan
from tests.kit.cli import COMMAND, alive, assert_one_line, names_of, record_of, status, worldswitch
from tests.kit.served import ClientRig, until
from tests.kit.vfioclient import VfioClient, refused
from vmapp.lance.testkit import MAC, RX

NAME = f"serve-{os.getpid()}"
PLAN = NetworkPlan(NAME)
GUEST_MAC = MAC  # what the rig's init block says
ARP_TYPE = b"\x08\x06"
RUN_AND_HANG = """
import sys, time
from pathlib import Path
from tests.kit.served import ClientRig
from tests.kit.vfioclient import VfioClient, refused
rig = ClientRig(VfioClient.connect(Path(sys.argv[1])))
rig.start()
print("started", flush=True)
time.sleep(60)
"""


@contextmanager
def serving(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The program in the foreground, once it serves; gone after the block."""
    words = [*COMMAND, "serve", str(path), "--name", NAME, *options]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"stack {NAME} serves"), process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        worldswitch("down", "--name", NAME)


def arp_request() -> bytes:
    """Who has the peer's address? Tell the guest."""
    addresses = [socket.inet_aton(station.address) for station in (PLAN.guest, PLAN.peer)]
    arp = bytes.fromhex("0001080006040001") + GUEST_MAC + addresses[0] + bytes(6) + addresses[1]
    return (b"\xff" * 6 + GUEST_MAC + ARP_TYPE + arp).ljust(60, b"\0")


def answers(rig: ClientRig) -> list[bytes]:
    """ARP replies from the peer, among whatever else has been received."""
    peer = bytes.fromhex(PLAN.peer.mac.replace(":", ""))
    frames = [rig.received(index) for index in range(8) if not rig.get(RX, index).owned]
    return [frame for frame in frames if frame[:14] == GUEST_MAC + peer + ARP_TYPE and frame[20:22] == b"\0\2"]


def asks_the_peer(path: Path) -> None:
    """A client connects, brings its chip up, and gets an answer to a frame of its own, with an interrupt."""
    client = VfioClient.connect(path)
    rig = ClientRig(client)
    try:
        rig.start()
        rig.queue(0, arp_request())
        rig.kick()
        assert rig.interrupted()
        assert until(lambda: answers(rig))
        rig.acknowledge()
    finally:
        client.close()
        rig.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("profile", ["paper", "fast"])
def test_a_client_reaches_the_peer(tmp_path: Path, mode: str, profile: str) -> None:
    """In every mode: a frame out, the peer's answer in; the counters say so, and the end leaves nothing."""
    path = tmp_path / "nic.sock"
    with serving(path, "--mode", mode, "--profile", profile) as process:
        asks_the_peer(path)
        report = status(NAME)
        assert report["counters"]["tx_frames"] == 1
        assert report["counters"]["rx_frames"] >= 1
        assert "0xc010" in report["ports"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert (path.exists(), names_of(NAME)) == (False, set())


def test_a_killed_client_makes_way_for_the_next(tmp_path: Path) -> None:
    """Kill -9 of a client whose chip runs: the device is new for the next one. A second one at a time is refused."""
    path = tmp_path / "nic.sock"
    with serving(path):
        with subprocess.Popen(
            [sys.executable, "-c", RUN_AND_HANG, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"started\n"
            second = VfioClient.connect(path)
            refused(errno.EBUSY, second.version)
            second.close()
            client.kill()
        asks_the_peer(path)


def test_what_can_be_asked_of_a_served_nic(tmp_path: Path) -> None:
    """Settings, cable, registers and a trace work while a client is there; exec guest says why it does not."""
    path = tmp_path / "nic.sock"
    with serving(path):
        client = VfioClient.connect(path)
        rig = ClientRig(client)
        rig.start()
        assert worldswitch("set", "--name", NAME, "mode=optimised", "link=down").returncode == 0
        assert "link down" in worldswitch("registers", "--name", NAME).stdout
        assert worldswitch("trace", str(tmp_path / "t.json"), "--name", NAME, "--seconds", "0.2").returncode == 0
        assert worldswitch("top", "--name", NAME, "--once", "--interval", "0.2").returncode == 0
        assert "console" in assert_one_line(worldswitch("exec", "--name", NAME, "guest", "--", "true"), 1)
        client.close()
        rig.close()


def test_an_idle_nic_costs_little(tmp_path: Path) -> None:
    """A client whose driver is up and does nothing: vmm and vmapp together use less than 1 % of a CPU."""
    path = tmp_path / "nic.sock"
    with serving(path, "--mode", "optimised"):
        client = VfioClient.connect(path)
        rig = ClientRig(client)
        rig.start()
        time.sleep(0.5)  # until the timer rests
        before = _cpu_seconds()
        time.sleep(5)
        assert _cpu_seconds() - before <= 0.05
        client.close()
        rig.close()


def _cpu_seconds() -> float:
    ticks = 0
    for identity in record_of(NAME)["processes"].values():
        fields = Path(f"/proc/{identity['pid']}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_a_socket_in_use(tmp_path: Path) -> None:
    """A path that a living server has is refused in one line; so are one that is too long, and a file."""
    path = tmp_path / "nic.sock"
    with serving(path):
        complaint = assert_one_line(worldswitch("serve", str(path), "--name", f"{NAME}b"), 1)
        assert "in use" in complaint
    file = tmp_path / "file"
    file.write_text("precious")
    assert_one_line(worldswitch("serve", str(file), "--name", NAME), 2)
    assert file.read_text() == "precious"
    assert_one_line(worldswitch("serve", str(tmp_path / ("x" * 120)), "--name", NAME), 2)
    assert names_of(NAME) == names_of(f"{NAME}b") == set()


def test_a_killed_supervisor(tmp_path: Path) -> None:
    """Kill -9 of the supervisor: vmm and vmapp die with it, and down removes the socket, too."""
    path = tmp_path / "nic.sock"
    with serving(path):
        record = record_of(NAME)
        assert processes.is_alive(record["supervisor"])
        os.kill(record["supervisor"]["pid"], signal.SIGKILL)
        assert until(lambda: not alive(record))
        assert worldswitch("down", "--name", NAME).returncode == 0
        assert (path.exists(), names_of(NAME)) == (False, set())
