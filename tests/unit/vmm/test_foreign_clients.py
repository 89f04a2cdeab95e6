"""Clients that come, go, die and cheat: the device starts anew for the next one, and vmapp outlives them all."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.served import ClientRig, Served, frame_for, guest_memory, received, served, until
from tests.kit.vfioclient import VfioClient, encode, refused
from vmapp.lance.testkit import MAC, RAM_SIZE, RX, TX
from vmm.foreign.function import BAR0, CONFIG_SPACE
from vmm.vfiouser.messages import HEADER, Command, DmaFlag

pytestmark = pytest.mark.timeout(60)
PEER = bytes.fromhex("525400c61299")
PAGE = 4096
HIGH = 0x4000_0000


def works(machine: Served) -> None:
    """A new client's driver sends a frame and receives one."""
    with machine.rig() as rig:
        rig.start()
        rig.queue(0, frame_for(PEER))
        rig.kick()
        assert machine.wire.recv(2048) == frame_for(PEER)
        machine.wire.send(frame_for(MAC))
        assert until(lambda: received(rig, 0) == frame_for(MAC))


def test_the_next_client_finds_a_new_device(tmp_path: Path) -> None:
    """A client goes without a word while its chip runs: registers are reset, its memory is let go of."""
    with served(tmp_path, mode="optimised") as machine:
        for _ in range(3):
            with machine.rig() as rig:
                rig.start()
                assert machine.mappings() == 1
            assert until(lambda: machine.mappings() == 0)
        works(machine)


def test_no_dma_after_unmap(tmp_path: Path) -> None:
    """Frames that arrive after the ring's memory was unmapped change nothing in it: they are memory errors."""
    with served(tmp_path, mode="optimised") as machine, machine.rig() as rig:
        rig.start()
        rig.client.unmap(0, RAM_SIZE)
        assert machine.mappings() == 0
        before = bytes(rig.ram)
        machine.wire.send(frame_for(MAC))
        assert until(lambda: machine.counter("vmapp", "memory_errors") > 0)
        rig.kick()
        assert bytes(rig.ram) == before
        rig.client.map(0, RAM_SIZE, rig.fd)
        rig.start()
        machine.wire.send(frame_for(MAC, 1))
        # The chip may have left the first one in the TAP when it lost its ring.
        assert until(lambda: frame_for(MAC, 1) in (received(rig, 0), received(rig, 1)))


def test_windows_hide_and_uncover(tmp_path: Path) -> None:
    """A later window hides an earlier one where they overlap, and uncovers it when it goes."""
    with served(tmp_path) as machine, machine.rig() as rig:
        other = guest_memory(PAGE)
        start = rig.buffer_address(TX, 0) & -PAGE
        rig.start()
        rig.client.map(start, PAGE, other)
        os.pwrite(other, frame_for(PEER, 7), rig.buffer_address(TX, 0) - start)
        for unmapped, number in ((False, 7), (True, 8)):
            if unmapped:
                rig.client.unmap(start, PAGE)
            rig.queue(int(unmapped), frame_for(PEER, 8))
            rig.put(TX, int(unmapped), rig.buffer_address(TX, 0), 100, 0x83)
            rig.ram[rig.buffer_address(TX, 0) : rig.buffer_address(TX, 0) + 100] = frame_for(PEER, 8)
            rig.kick()
            assert machine.wire.recv(2048) == frame_for(PEER, number)
        os.close(other)


def test_read_only_windows_are_not_written(tmp_path: Path) -> None:
    """A receive buffer in a read-only window: the frame is lost, the memory untouched, and vmapp lives."""
    with served(tmp_path) as machine, machine.rig() as rig:
        rig.start()
        start = rig.buffer_address(RX, 0) & -PAGE
        rig.client.map(start, PAGE, rig.fd, start, DmaFlag.READ)
        before = bytes(rig.ram[start : start + PAGE])
        machine.wire.send(frame_for(MAC))
        assert until(lambda: machine.counter("vmapp", "memory_errors") > 0)
        assert bytes(rig.ram[start : start + PAGE]) == before
        assert machine.stack.died() is None


def _file(folder: Path) -> int:
    path = folder / "memory"
    path.write_bytes(bytes(PAGE))
    return os.open(path, os.O_RDWR)


UNFIT: dict[str, Callable[[Path], int]] = {
    "a file, which could be truncated": _file,
    "a memfd that cannot be sealed": lambda _: guest_memory(PAGE, seals=fcntl.F_SEAL_SEAL),
    "a pipe": lambda _: os.pipe()[0],
    "a directory": lambda folder: os.open(folder, os.O_RDONLY),
    "a memfd that is too short": lambda _: guest_memory(PAGE - 1),
    "an empty memfd": lambda _: guest_memory(0),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_unfit_descriptors(tmp_path: Path, kind: str) -> None:
    """What could raise SIGBUS in vmapp later is refused now; the client may go on."""
    with served(tmp_path) as machine, machine.rig() as rig:
        fd = UNFIT[kind](tmp_path)
        refused(errno.EINVAL, rig.client.map, HIGH, PAGE, fd)
        os.close(fd)
        assert machine.mappings() == 1
        rig.start()


def test_memory_cannot_shrink_once_it_is_mapped(tmp_path: Path) -> None:
    """A memfd that came unsealed is sealed: its owner can no longer cut it short under vmapp."""
    with served(tmp_path) as machine, machine.rig() as rig:
        fd = guest_memory(2 * PAGE, seals=0)
        rig.client.map(HIGH, 2 * PAGE, fd)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, PAGE)
        os.close(fd)
        assert machine.mappings() == 2


def test_a_descriptor_without_the_right_to_write(tmp_path: Path) -> None:
    """A writable window of a memfd that was sealed against writing is refused by the kernel, and said so."""
    with served(tmp_path) as machine, machine.rig() as rig:
        fd = guest_memory(PAGE, seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
        with pytest.raises(PermissionError):
            rig.client.map(HIGH, PAGE, fd)
        rig.client.map(HIGH, PAGE, fd, 0, DmaFlag.READ)
        os.close(fd)
        assert machine.stack.died() is None


def test_windows_of_a_guest_behind_an_iommu(tmp_path: Path) -> None:
    """1,200 pages, as such a guest has them: one mapping for all of them, and nothing is left of any."""
    with served(tmp_path) as machine, machine.rig() as rig:
        for number in range(1200):
            rig.client.map(HIGH + number * 2 * PAGE, PAGE, rig.fd, number % 256 * PAGE)
        assert machine.mappings() == 1
        rig.client.unmap(HIGH + 2 * PAGE, PAGE)
        refused(errno.ENOENT, rig.client.unmap, HIGH + 2 * PAGE, PAGE)
        rig.start()
        rig.client.unmap_all()
        assert machine.mappings() == 0


def test_nothing_above_4_gib_outlives_its_client(tmp_path: Path) -> None:
    """Windows that go on beyond what the chip can reach, to the very last address, are as gone as others."""
    with served(tmp_path) as machine:
        for _ in range(2):
            client = VfioClient.connect(machine.path)
            client.version()
            memory = guest_memory(16 << 30)
            client.map(0, 16 << 30, memory)
            assert machine.mappings() == 1
            client.unmap(0, 16 << 30)
            assert machine.mappings() == 0
            client.map(0, 16 << 30, memory)
            os.close(memory)
            for _ in range(255):
                client.map(PAGE, (1 << 64) - PAGE, None)
            client.close()
            assert until(lambda: machine.mappings() == 0)
        works(machine)


def test_nonsense_behind_a_good_message(tmp_path: Path) -> None:
    """A message and a header that cannot be, in one piece: the message is answered, then the connection ends."""
    with served(tmp_path) as machine:
        client = VfioClient.connect(machine.path)
        client.version()
        client.send_bytes(encode(Command.DEVICE_RESET) + encode(Command.DEVICE_RESET, size=HEADER.size - 1))
        assert client.receive().errno == 0
        with pytest.raises(ConnectionError):
            client.receive()
        client.close()
        assert machine.stack.died() is None
        works(machine)


def test_a_client_that_throws_anything_at_the_registers(tmp_path: Path) -> None:
    """Random accesses of every region, offset and size, rings anywhere: the stack lives, and serves the next client."""
    chance = random.Random(5)
    with served(tmp_path, mode="optimised", profile="fast") as machine:
        with machine.rig() as rig:
            _scribble(rig, chance)
            for _ in range(3000):
                _one_access(rig.client, chance)
        assert machine.stack.died() is None
        while _drained(machine):
            pass
        works(machine)


def _scribble(rig: ClientRig, chance: random.Random) -> None:
    for at in range(0, RAM_SIZE, PAGE):
        rig.ram[at : at + 64] = chance.randbytes(64)


def _one_access(client: VfioClient, chance: random.Random) -> None:
    region = chance.choice((BAR0, BAR0, BAR0, 1, CONFIG_SPACE))
    size = 256 if region == CONFIG_SPACE else 32
    offset = chance.choice((0x10, 0x12, 0x14, 0x16, chance.randrange(size)))
    count = min(chance.choice((1, 2, 2, 2, 4, 3, 8)), size - offset)
    if chance.random() < 0.3:
        client.read(region, offset, count)
    else:
        client.write(region, offset, chance.randbytes(count))


def _drained(machine: Served) -> bool:
    machine.wire.settimeout(0.2)
    try:
        machine.wire.recv(1 << 16)
    except TimeoutError:
        return False
    finally:
        machine.wire.settimeout(5)
    return True
