"""The device behind the socket, with the real vmm and vmapp: frames, interrupts, widths, resets, an idle guest."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from machine.config import MODES
from tests.kit.served import BASE, ClientRig, frame_for, guest_memory, received, served, until
from vmapp.lance.testkit import MAC, RAM_SIZE
from vmm.foreign.function import BAR0, BAR1, CONFIG_SPACE

pytestmark = pytest.mark.timeout(60)
PEER = bytes.fromhex("525400c61299")
SOON_S = 0.5  # half a tick where one is a second


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("profile", ["paper", "fast"])
def test_a_frame_each_way(tmp_path: Path, mode: str, profile: str) -> None:
    """In every mode a client's driver sends a frame and receives one, each with its interrupt."""
    with served(tmp_path, mode=mode, profile=profile) as machine, machine.rig() as rig:
        rig.start()
        for number in range(3):
            rig.queue(number, frame_for(PEER, number))
            rig.kick()
            assert machine.wire.recv(2048) == frame_for(PEER, number)
            machine.wire.send(frame_for(MAC, number))
            assert until(lambda number=number: received(rig, number) == frame_for(MAC, number))
            assert rig.interrupted()
            rig.acknowledge()
        assert machine.counter("vmm", "irqs_raised") >= 4


@pytest.mark.parametrize("mode", MODES)
def test_what_a_frame_switches_for(tmp_path: Path, mode: str) -> None:
    """A register access switches worlds in 2.0 and is handled in the vmm later, as with the built-in guest."""
    with served(tmp_path, mode=mode) as machine, machine.rig() as rig:
        rig.start()
        before = machine.counter("vmm", "switches_for_io")
        for _ in range(10):
            rig.csr(0)
        switched = machine.counter("vmm", "switches_for_io") - before
        assert switched == (10 if mode == "2.0" else 0)


def test_ports_are_counted_where_the_guest_put_them(tmp_path: Path) -> None:
    """Statistics carry BAR 0 plus the offset; registers in memory are the same registers."""
    with served(tmp_path) as machine, machine.rig() as rig:
        from lab.status import ports_of

        rig.outw(0x12, 88)
        assert rig.client.read(BAR1, 0x10, 2) == rig.client.read(BAR0, 0x10, 2) == (0x1003).to_bytes(2, "little")
        ports = ports_of(machine.stack.counters["vmm"])
        assert ports[f"{BASE + 0x10:#06x}"]["reads"] == 2


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 8), (1, 2), (1, 5), (3, 4), (0, 16), (5, 11), (0, 32)]
)
def test_odd_accesses_are_split(tmp_path: Path, offset: int, count: int) -> None:
    """What is not one aligned access of 1, 2 or 4 bytes reads what a bridge's aligned ones would."""
    with served(tmp_path, mode="optimised") as machine, machine.rig() as rig:
        whole = rig.client.read(BAR0, offset, count)
        assert len(whole) == count
        station = MAC + b"\0\0\0\x11"
        if offset + count <= len(station) and count < 4:
            assert whole == station[offset : offset + count]
        rig.client.write(BAR0, offset, whole)
        assert machine.stack.died() is None


def test_configuration_space(tmp_path: Path) -> None:
    """IDs, BAR sizing and read-only bits are as the data sheet has them."""
    with served(tmp_path) as machine, machine.rig() as rig:
        client = rig.client
        assert client.read(CONFIG_SPACE, 0, 4) == bytes.fromhex("22100020")
        client.write(CONFIG_SPACE, 0x10, b"\xff" * 4)
        assert client.read(CONFIG_SPACE, 0x10, 4) == (0xFFFF_FFE1).to_bytes(4, "little")
        client.write(CONFIG_SPACE, 0, b"\0\0\0\0")
        assert client.read(CONFIG_SPACE, 0, 4) == bytes.fromhex("22100020")
        assert machine.stack.died() is None


def test_a_reset_is_a_power_on_with_the_cable_as_it_is(tmp_path: Path) -> None:
    """DEVICE_RESET: registers and PCI configuration start anew, the line falls, memory stays mapped."""
    with served(tmp_path, mode="optimised") as machine, machine.rig() as rig:
        rig.start()
        machine.stack.plug(False)
        rig.client.reset()
        assert rig.client.read(CONFIG_SPACE, 0x04, 2) == b"\0\0"
        assert rig.csr(0) == 0x0004
        assert machine.mappings() == 1
        machine.stack.plug(True)
        rig.client.write(CONFIG_SPACE, 0x04, (0x0005).to_bytes(2, "little"))
        rig.write_bcr(20, 2)
        rig.start()
        rig.queue(0, frame_for(PEER))
        rig.kick()
        assert machine.wire.recv(2048) == frame_for(PEER)


def test_settings_change_under_a_running_client(tmp_path: Path) -> None:
    """Mode after mode on one running chip: frames go on, both ways."""
    import dataclasses

    with served(tmp_path) as machine, machine.rig() as rig:
        rig.start()
        for number, mode in enumerate((*MODES, *MODES)):
            machine.stack.apply(dataclasses.replace(machine.stack.settings, mode=mode))
            at = number % 8
            rig.lend(at)
            rig.queue(at, frame_for(PEER, number))
            rig.kick()
            assert machine.wire.recv(2048) == frame_for(PEER, number)
            machine.wire.send(frame_for(MAC, number))
            assert until(lambda at=at, number=number: received(rig, at) == frame_for(MAC, number)), mode
            rig.acknowledge()


@pytest.mark.parametrize("mode", ["2.0", "optimised"])
def test_frames_wait_for_rmds(tmp_path: Path, mode: str) -> None:
    """More frames than RMDs: the rest come as soon as RMDs are lent, without another frame or kick."""
    with served(tmp_path, mode=mode) as machine, machine.rig() as rig:
        rig.start()
        for number in range(12):
            machine.wire.send(frame_for(MAC, number))
        assert until(lambda: received(rig, 7) == frame_for(MAC, 7))
        rig.lend_all(4)
        assert until(lambda: received(rig, 3) == frame_for(MAC, 11))
        assert machine.counter("vmapp", "rx_missed") == 0


@pytest.mark.parametrize("profile", ["paper", "fast"])
def test_an_idle_guest_costs_little(tmp_path: Path, profile: str) -> None:
    """A running chip whose guest does nothing: less than a hundredth of a CPU, and a frame still arrives at once."""
    with served(tmp_path, profile=profile, mode="optimised") as machine, machine.rig() as rig:
        rig.start()
        time.sleep(0.3)
        before = machine.cpu_seconds()
        time.sleep(3)
        assert machine.cpu_seconds() - before <= 0.03 + 0.02  # clock ticks of 10 ms, of two processes
        machine.wire.send(frame_for(MAC))
        began = time.monotonic()
        assert rig.interrupted()
        assert time.monotonic() - began < 0.5
        _echo(machine.wire, rig)


def _echo(wire: object, rig: ClientRig) -> None:
    rig.acknowledge()
    rig.queue(0, frame_for(PEER))
    rig.kick()
    assert wire.recv(2048) == frame_for(PEER)  # type: ignore[attr-defined]


@pytest.mark.parametrize("linger_us", [0, 50, 1000])
def test_the_last_packet_waits_for_silence_not_for_the_tick(tmp_path: Path, linger_us: int) -> None:
    """With combining, a packet that waits for others goes when the guest has been silent for a moment."""
    chosen = {"mode": "combining", "combine_threshold": 0, "combine_cap": 3, "tick_ms": 1000, "linger_us": linger_us}
    with served(tmp_path, profile="fast", **chosen) as machine, machine.rig() as rig:
        rig.start()
        assert until(lambda: rig.csr(0) >= 0 and machine.counter("vmm", "switches_for_tick") > 0)  # combining is on now
        rig.queue(0, frame_for(PEER))
        machine.wire.settimeout(SOON_S)
        rig.kick()
        assert machine.wire.recv(2048) == frame_for(PEER)
        assert machine.counter("vmm", "sends_combined") == 1


def test_a_change_of_the_memory_map_leaves_what_waits_to_be_sent(tmp_path: Path) -> None:
    """The switch for a DMA_MAP sends nothing, so a packet that waits still goes when the guest has been silent."""
    chosen = {"mode": "combining", "combine_threshold": 0, "combine_cap": 3, "tick_ms": 1000}
    with served(tmp_path, profile="fast", **chosen) as machine, machine.rig() as rig:
        rig.start()
        assert until(lambda: rig.csr(0) >= 0 and machine.counter("vmm", "switches_for_tick") > 0)  # combining is on now
        fd = guest_memory()
        rig.queue(0, frame_for(PEER))
        machine.wire.settimeout(SOON_S)
        rig.kick()
        rig.client.map(RAM_SIZE, RAM_SIZE, fd)
        os.close(fd)
        assert machine.wire.recv(2048) == frame_for(PEER)
        assert machine.counter("vmm", "sends_combined") == 1
