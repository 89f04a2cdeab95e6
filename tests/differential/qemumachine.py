"""QEMU's pcnet as a ``Machine``: its ports by qtest, its memory by a shared file, its wire by a pair of sockets."""

from __future__ import annotations

import fcntl
import mmap
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.differential.monitor import Monitor
from tests.differential.qtest import QTest
from tests.differential.steps import WINDOW, Access, Config
from vmapp.lance.testkit import MAC

__all__ = ["QemuMachine", "qemu_machine"]

_WIRE: Final = "wire"
_RAM: Final = 16 << 20
_BAR0: Final = 0xC000
_COMMAND: Final = 0x0005  # I/O decoding, bus master
_LANCE: Final = 0x80002000  # CONFIG_ADDRESS of device 4
_PIIX_ROUTES: Final = 0x80000860  # PIRQ route registers: which ISA interrupt INTA# to INTD# become
_IRQ: Final = 11
_CONFIG_ADDRESS: Final = 0xCF8
_CONFIG_DATA: Final = 0xCFC
_INTERVAL_NS: Final = 2_000_000  # the longest polling interval is 65536 clocks of 33 MHz
_SIOCOUTQ: Final = 0x5411  # bytes that the other end has not read yet
_LONGEST: Final = 1 << 16
_LETTER: Final = {1: "b", 2: "w", 4: "l"}
_PLAIN_CONFIG: Final = (Config(0x0C, 2, 0), Config(0x3C, 1, 0))  # cache line, latency timer, interrupt line
_KEPT_BY_RESET: Final = (1, 2, 15, *range(18, 48))  # CSRs that S_RESET leaves, and that hold what was written
_BCR_RESET: Final = {
    2: 0x0002,
    4: 0x00C0,
    5: 0x0084,
    6: 0x0088,
    7: 0x0090,
    9: 0,
    18: 0x9001,
    19: 0x0002,
    20: 0,
    22: 0xFF06,
}


class QemuMachine:
    """``raw_csr`` and ``raw_bcr`` write registers behind the sequence's back; RAP is as it was afterwards."""

    def __init__(self, qtest: QTest, monitor: Monitor, memory: memoryview, wire: socket.socket) -> None:
        self.memory = memory
        self.rap = 0
        self.dwio = False
        self._qtest = qtest
        self._monitor = monitor
        self._link = True
        self._wire = wire
        self._boot()

    def access(self, access: Access) -> int:
        """As ``Machine``."""
        return self._qtest.one(self.command(access))

    @staticmethod
    def command(access: Access) -> str:
        """The line that carries out a port access."""
        letter, port = _LETTER[access.width], _BAR0 + access.offset
        return f"in{letter} {port}" if access.value is None else f"out{letter} {port} {access.value}"

    def run(self, commands: list[str]) -> list[int]:
        """Carries out lines of the qtest protocol; what each answers with."""
        return self._qtest.batch(commands)

    def raw_csr(self, index: int, value: int) -> list[str]:
        """Lines that write a CSR."""
        return [self._out(self._rap_port, index), self._out(0x10, value), self._out(self._rap_port, self.rap)]

    def raw_bcr(self, index: int, value: int) -> list[str]:
        """Lines that write a BCR."""
        data = 0x1C if self.dwio else 0x16
        return [self._out(self._rap_port, index), self._out(data, value), self._out(self._rap_port, self.rap)]

    def select(self, index: int) -> str:
        """The line that writes RAP; it stays so."""
        return self._out(self._rap_port, index)

    def switch_to_dwio(self) -> list[str]:
        """Lines that switch from 16-bit to 32-bit ports."""
        return [f"outl {_BAR0 + 0x10} 0"]

    @property
    def interval(self) -> str:
        """The line that lets more than one polling interval go by."""
        return f"clock_step {_INTERVAL_NS}"

    def raw_csr0(self) -> list[str]:
        """Lines that read CSR0; the second one has the value."""
        read = f"in{'l' if self.dwio else 'w'} {_BAR0 + 0x10}"
        return [self._out(self._rap_port, 0), read, self._out(self._rap_port, self.rap)]

    def csr0(self) -> int:
        """As ``Machine``."""
        return self._qtest.batch(self.raw_csr0())[1]

    def level(self) -> int:
        """As ``Machine``."""
        return self._qtest.levels.get(_IRQ, 0)

    def time_passes(self) -> None:
        """As ``Machine``."""
        self._qtest.one(self.interval)

    def config(self, step: Config) -> int:
        """As ``Machine``."""
        port, letter = _CONFIG_DATA + (step.offset & 3), _LETTER[step.width]
        line = f"in{letter} {port}" if step.value is None else f"out{letter} {port} {step.value}"
        return self._qtest.batch((f"outl {_CONFIG_ADDRESS} {_LANCE | step.offset & 0xFC}", line))[1]

    @property
    def settings(self) -> tuple[Config, ...]:
        """BAR0, BAR1 and the command register as the ports of this object need them."""
        return Config(0x10, 4, _BAR0), Config(0x14, 4, 0), Config(0x04, 2, _COMMAND)

    def inject(self, frame: bytes) -> None:
        """As ``Machine``."""
        self._wire.send(frame)
        while fcntl.ioctl(self._wire, _SIOCOUTQ, b"\0\0\0\0") != b"\0\0\0\0":
            pass  # QEMU's one thread reads it, and hands it to the chip before it looks at anything else

    def set_link(self, up: bool) -> None:
        """As ``Machine``."""
        self._monitor.execute("set_link", name=_WIRE, up=up)
        self._link = up

    def sent(self) -> list[bytes]:
        """As ``Machine``."""
        frames = []
        try:
            while True:
                frames.append(self._wire.recv(_LONGEST))
        except BlockingIOError:
            return frames

    def reset(self) -> None:
        """The chip as after H_RESET, as far as its registers can be written; memory is left alone."""
        if not self._link:
            self.set_link(True)
        for setting in (*self.settings, *_PLAIN_CONFIG):
            self.config(setting)
        self.dwio, self.rap = False, 0
        lines = [f"inl {_BAR0 + 0x18}", f"inw {_BAR0 + 0x14}"]  # S_RESET in DWIO, which ends it, and in WIO
        for index, value in _BCR_RESET.items():
            lines += self.raw_bcr(index, value)
        for index in _KEPT_BY_RESET:
            lines += self.raw_csr(index, 0)
        lines += self._restore_aprom()
        self._qtest.batch(lines)
        self.sent()

    def _restore_aprom(self) -> Iterator[str]:
        yield from self.raw_bcr(2, 0x0102)
        yield from (f"outb {_BAR0 + at} {byte}" for at, byte in enumerate(self._aprom))
        yield from self.raw_bcr(2, 0x0002)
        yield f"inw {_BAR0 + 0x14}"  # PADR is loaded from the APROM

    def _boot(self) -> None:
        """PCI, interrupt routing, and a first start, from which QEMU's polling interval counts for ever."""
        self._qtest.one("irq_intercept_in ioapic")
        self._qtest.batch((f"outl {_CONFIG_ADDRESS} {_PIIX_ROUTES}", f"outl {_CONFIG_DATA} {_IRQ * 0x01010101}"))
        for setting in self.settings:
            self.config(setting)
        self._aprom = self._qtest.batch([f"inb {_BAR0 + at}" for at in range(16)])
        self.time_passes()
        self._qtest.batch([*self.raw_csr(15, 3), *self.raw_csr(0, 2)])
        self.time_passes()
        self.reset()

    @property
    def _rap_port(self) -> int:
        return 0x14 if self.dwio else 0x12

    def _out(self, offset: int, value: int) -> str:
        return f"out{'l' if self.dwio else 'w'} {_BAR0 + offset} {value}"


@contextmanager
def qemu_machine() -> Iterator[QemuMachine]:
    """A QEMU with one pcnet. Raises SetupError if there is no QEMU."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="worldswitch-qtest-")))
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        ram = folder / "ram"
        with ram.open("wb") as file:
            file.truncate(_RAM)
        qtest = stack.enter_context(QTest(folder, list(_arguments(folder, ram, theirs.fileno())), (theirs.fileno(),)))
        theirs.close()
        monitor = stack.enter_context(Monitor(folder / "monitor"))
        with ram.open("r+b") as file:
            mapping = stack.enter_context(mmap.mmap(file.fileno(), WINDOW))
        memory = stack.enter_context(memoryview(mapping))
        yield QemuMachine(qtest, monitor, memory, ours)


def _arguments(folder: Path, ram: Path, wire: int) -> Iterable[str]:
    yield from ("-accel", "qtest", "-machine", "pc,memory-backend=ram", "-m", f"{_RAM >> 20}")
    yield from ("-object", f"memory-backend-file,id=ram,size={_RAM},mem-path={ram},share=on")
    yield from ("-nodefaults", "-display", "none", "-qmp", f"unix:{folder / 'monitor'},server=on,wait=off")
    yield from ("-netdev", f"dgram,id={_WIRE},local.type=fd,local.str={wire}")
    yield from ("-device", f"pcnet,addr=4,romfile=,netdev={_WIRE},mac={MAC.hex(':')}")
