"""What the vmm says when a client's card cannot work, with the real vmm and vmapp behind a socket."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from lab.status import measure
from machine.dma import MOST_WINDOWS
from tests.kit.served import Served, guest_memory, served, until
from tests.kit.vfioclient import VfioClient, encode, refused
from vmm.vfiouser.messages import PAGE, Command, IrqAction, IrqData

pytestmark = pytest.mark.timeout(60)


def troubles(machine: Served) -> list[str]:
    """As ``worldswitch status`` has them; each is one line of reasonable length."""
    found: list[str] = measure(machine.stack)["troubles"]
    assert all(line.isprintable() and len(line) < 200 for line in found)
    return found


def greeted(machine: Served) -> VfioClient:
    """A client that has said nothing but which version it speaks."""
    client = VfioClient.connect(machine.path)
    client.version()
    return client


def test_a_card_that_works_has_no_troubles(tmp_path: Path) -> None:
    """Shared, sealed memory and an eventfd; a ROM, for which no descriptor comes; the messages of a good client."""
    with served(tmp_path) as machine, machine.rig() as rig:
        rig.start()
        rig.client.map(1 << 20, PAGE, None)
        refused(errno.ENOTSUP, rig.client.call, Command.DEVICE_FEATURE, bytes(8))
        assert troubles(machine) == []


@pytest.mark.parametrize("kind", ["file", "short", "pipe", "too many", "flags"])
def test_memory_that_is_refused(tmp_path: Path, kind: str) -> None:
    """The reason stays for as long as that client does, and is not the next one's."""
    with served(tmp_path) as machine:
        client = greeted(machine)
        memory, file = guest_memory(PAGE), os.open(tmp_path / "ram", os.O_RDWR | os.O_CREAT)
        os.ftruncate(file, PAGE)
        if kind == "file":
            refused(errno.EINVAL, client.map, 0, PAGE, file)
        elif kind == "short":
            refused(errno.EINVAL, client.map, 0, 2 * PAGE, memory)
        elif kind == "pipe":
            refused(errno.EINVAL, client.map, 0, PAGE, machine.wire.fileno())
        elif kind == "flags":
            refused(errno.EINVAL, client.map, 0, PAGE, memory, 0, 0)
        else:
            for number in range(MOST_WINDOWS):
                client.map(number * PAGE, PAGE, memory)
            assert troubles(machine) == []
            refused(errno.ENOSPC, client.map, MOST_WINDOWS * PAGE, PAGE, memory)
        found = troubles(machine)
        assert len(found) == 1
        assert found[0].startswith("DMA_MAP refused: ")
        client.close()
        os.close(memory)
        os.close(file)
        assert until(lambda: not troubles(machine))


def test_memory_that_the_client_keeps_to_itself(tmp_path: Path) -> None:
    """RAM for which no descriptor comes is accepted, as a ROM is, and can never be reached: that is said."""
    with served(tmp_path) as machine:
        client = greeted(machine)
        client.map(0, PAGE, None)
        assert "memory-backend-memfd" in troubles(machine)[0]
        client.close()


def test_an_interrupt_that_is_refused(tmp_path: Path) -> None:
    """A trigger that is no eventfd leaves the guest without interrupts."""
    with served(tmp_path) as machine:
        client = greeted(machine)
        refused(errno.EINVAL, client.set_irqs, IrqData.EVENTFD | IrqAction.TRIGGER, fds=[machine.wire.fileno()])
        assert troubles(machine) == ["DEVICE_SET_IRQS refused: not an eventfd"]
        client.close()


def test_a_second_client_is_answered_while_the_first_is_idle(tmp_path: Path) -> None:
    """Half a message, silence, and a whole one: the last is answered at once, and all are gone two seconds later."""
    with served(tmp_path) as machine, machine.rig() as rig:
        rig.start()
        time.sleep(0.3)  # until the vmm rests
        before = len(os.listdir(f"/proc/{machine.stack.pids['vmm']}/fd"))
        silent, half = VfioClient.connect(machine.path), VfioClient.connect(machine.path)
        half.send_bytes(encode(Command.VERSION, bytes(4))[:9])
        third = VfioClient.connect(machine.path)
        started = time.monotonic()
        refused(errno.EBUSY, third.version)
        assert time.monotonic() - started < 1.0
        for client in (silent, half):
            with pytest.raises(ConnectionError):
                client.receive()
        assert len(os.listdir(f"/proc/{machine.stack.pids['vmm']}/fd")) == before
        for client in (silent, half, third):
            client.close()


def test_a_silence_longer_than_qemu_waits_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A vmm that is stopped for six seconds says so in one line when it goes on."""
    with served(tmp_path) as machine, machine.rig() as rig:
        os.kill(machine.stack.pids["vmm"], signal.SIGSTOP)
        time.sleep(5.5)
        os.kill(machine.stack.pids["vmm"], signal.SIGCONT)
        rig.start()
        said: list[str] = []

        def logged() -> bool:
            said.append(capfd.readouterr().err)
            return "nobody was answered" in "".join(said)

        assert until(logged)
        assert "".join(said).count("nobody was answered") == 1
