"""Random guests: drivers that know what they do, drivers that do it half, and hostile ones, on one random source.

The generator looks at our device as it goes along (is it stopped, where in its ring is it), so that sequences get deep:
a random TMD is put where the chip looks next, not anywhere. ``random.Random`` makes it fast and repeatable by seed;
hypothesis' own source, of the same interface, makes what it finds small.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from machine.lance import bits
from tests.differential.context import RX, TX, RingView
from tests.differential.machines import OurMachine
from tests.differential.steps import BCR, CSR, WINDOW, Config, Inject, Link, Port, Reg, Reset, Step, Store
from vmapp.lance.testkit import MAC

__all__ = ["Guest"]

_INIT_BLOCK: Final = 0x0100
_RINGS: Final = {RX: 0x1000, TX: 0x2000}
_BUFFERS: Final = {RX: range(0x4000, 0xA000), TX: range(0xA000, 0xFF00)}
_OTHER: Final = bytes.fromhex("02005e000001")
_GROUP: Final = bytes.fromhex("01005e000001")
_BROADCAST: Final = b"\xff" * 6
_SIZES: Final = (14, 18, 40, 59, 60, 61, 63, 64, 65, 100, 128, 300, 600, 1513, 1514)
_LONG: Final = (1515, 1518, 1519, 1600, 2000, 3000)
_ROOMS: Final = (1544, 1544, 1536, 1518, 600, 128, 64, 60, 20, 4096)
_MODES: Final = (0, 0, 0x0080, 0x8000, 0x4000, 0x2000, 0x6000, 0x0004, 0x0044, 0x8044, 0x0008, 0x0001, 0x0002, 0x000C)
_VALUES: Final = (0, 1, 2, 3, 4, 0x40, 0x48, 0x100, 0xFF, 0x8000, 0xFFFF, 0x7FFF, 0xFF00, 0x00FF)
_INTERESTING: Final = (*range(7), 8, 11, 12, 15, 24, 30, 46, 47, 58, 72, 74, 76, 78, 80, 88, 89, 112, 114, 124)
_COMMANDS: Final = (0x0001, 0x0002, 0x0003, 0x0004, 0x0005, 0x0006, 0x0007, 0x0040, 0x0041, 0x0042, 0x0043, 0x0044,
                    0x0048, 0x0048, 0x0048, 0x0008, 0x004A, 0x004B, 0x000C)  # fmt: skip
_CSR4S: Final = (0x0915, 0x0915, 0x1915, 0x0115, 0x1115, 0x0000, 0x0811, 0x0010, 0x1004)
_CSR5S: Final = (0, 0, 0x8000, 0x4000, 0xC000, 0x0001)

_Action = Callable[[], Iterator[Step]]


class Guest:
    """An endless source of steps for the machine that ``machine`` is one half of."""

    def __init__(self, random: Random, machine: OurMachine) -> None:
        self._random, self._machine = random, machine
        weighted: list[tuple[int, _Action]] = [
            (10, self._transmit),
            (8, self._lend),
            (8, self._arrive),
            (8, self._kick),
            (8, self._ack),
            (5, self._any_register),
            (4, self._boot),
            (4, self._masks),
            (3, self._any_port),
            (2, self._features),
            (2, self._control),
            (2, self._suspend),
            (2, self._set_up),
            (2, self._chain),
            (1, self._stop),
            (1, self._restart),
            (1, self._reset),
            (1, self._hostile),
            (1, self._configuration),
            (1, self._wide),
            (1, self._cable),
        ]
        self._actions = [action for weight, action in weighted for _ in range(weight)]

    def steps(self, count: int) -> Iterator[Step]:
        """At least ``count`` steps; actions are not cut short."""
        given = 0
        if self._random.random() < 0.9:
            for step in self._boot():
                given += 1
                yield step
        while given < count:
            for step in self._random.choice(self._actions)():
                given += 1
                yield step

    def _csr(self, index: int, value: int | None = None) -> Reg:
        return Reg(CSR, index, value)

    def _ring(self, name: str) -> RingView:
        """The ring as our device has it now."""
        base, counter, length = ((24, 72, 76), (30, 74, 78))[name == TX]
        csr = self._machine.csr
        size = -csr(length) & 0xFFFF or 0x10000
        style = self._machine.regs.swstyle & 3
        return RingView(b"", csr(base) | csr(base + 1) << 16, size, csr(counter) - csr(length) & 0xFFFF, style)

    def _boot(self) -> Iterator[Step]:
        """Brings the chip up, mostly as a driver should."""
        r = self._random
        style = r.choice((0, 1, 2, 2, 2, 3))
        if r.random() < 0.8:
            yield self._csr(0, 0x0004)
        yield Reg(BCR, 20, style)
        yield from self._init_block(style)
        if r.random() < 0.8:
            yield self._csr(4, r.choice(_CSR4S))
        if r.random() < 0.3:
            yield self._csr(5, r.choice(_CSR5S))
        if r.random() < 0.5:
            yield from self._lend()
        yield from r.choice((
            [self._csr(0, 0x0001), self._csr(0, 0x0142)],
            [self._csr(0, 0x0001), self._csr(0), self._csr(0, 0x0042)],
            [self._csr(0, 0x0043)],
            [self._csr(0, 0x0001)],
            [self._csr(0, 0x004B)],
            [self._csr(0, 0x0002 if self._machine.csr(24) else 0x0003)],
        ))  # fmt: skip

    def _init_block(self, style: int) -> Iterator[Step]:
        r = self._random
        mode = r.choice(_MODES) | (1 << r.randrange(16) if r.random() < 0.1 else 0)
        ladrf = bytes(8) if r.random() < 0.5 else r.randbytes(8)
        rx, tx = (_RINGS[ring] + 16 * r.randrange(4) for ring in (RX, TX))
        rlen, tlen = r.choice((0, 1, 2, 2, 3, 3, 4)), r.choice((0, 1, 2, 2, 3, 3, 4, 4))
        if style == 0:
            block = struct.pack("<H6s8sII", mode, MAC, ladrf, rx | rlen << 29, tx | tlen << 29)
        else:
            if r.random() < 0.05:
                rlen, tlen = r.randrange(16), r.randrange(16)
            block = struct.pack("<HH6sH8sII", mode, rlen << 4 | tlen << 12, MAC, 0, ladrf, rx, tx)
        yield Store(_INIT_BLOCK, block)
        yield self._csr(1, _INIT_BLOCK)
        yield self._csr(2, 0)

    def _descriptor(
        self, name: str, ahead: int, address: int, size: int, flags: int, result: int = 0
    ) -> Iterator[Step]:
        """A descriptor ``ahead`` of the chip's position; ``flags`` is the byte with OWN as 0x80."""
        ring = self._ring(name)
        at = ring.base + (ring.position + ahead) % ring.length * ring.step
        count = -size & 0xFFF | 0xF000
        if ring.style == 0:
            data = struct.pack("<IHH", address & 0xFFFFFF | flags << 24, count, result >> 16)
        else:
            words = address, flags << 24 | count, result
            data = struct.pack("<III", *(words[::-1] if ring.style == 3 else words)) + bytes(4)
        if 0 <= at <= WINDOW - len(data):
            yield Store(at, data)

    def _payload(self, size: int) -> bytes:
        r = self._random
        kind = r.choice((b"\x08\x00", b"\x08\x06", b"\x81\x00", b""))
        body = r.randbytes(min(size, 32))
        return (r.choice((MAC, _OTHER, _BROADCAST, _GROUP)) + _OTHER + kind + body * (size // len(body) + 1))[:size]

    def _buffer(self, name: str, size: int) -> int:
        area = _BUFFERS[name]
        return self._random.randrange(area.start, max(area.start + 1, area.stop - size))

    def _transmit(self) -> Iterator[Step]:
        """One frame in one TMD, or in several."""
        r = self._random
        size = r.choice(_SIZES) if r.random() < 0.9 else r.choice(_LONG)
        if self._machine.csr(15) & bits.CSR15_LOOP and r.random() < 0.9:
            size = max(size, 60)
        address = self._buffer(TX, size)
        yield Store(address, self._payload(size))
        pieces = min(r.choice((1, 1, 1, 2, 3)), self._ring(TX).length)
        cuts = [0, *sorted(r.randrange(1, size) for _ in range(pieces - 1)), size]
        extra = r.choice((0, 0, 0, 0, 0x10, 0x20, 0x48, 0x0C))
        order = list(range(pieces))
        if r.random() < 0.7:
            order.reverse()  # the first TMD last, as a careful driver does
        for i in order:
            flags = 0x80 | extra | (2 if i == 0 else 0) | (1 if i == pieces - 1 else 0)
            left = r.getrandbits(32) if r.random() < 0.1 else 0
            yield from self._descriptor(TX, i, address + cuts[i], cuts[i + 1] - cuts[i], flags, left)
        if r.random() < 0.6:
            yield self._csr(0, 0x0048)

    def _chain(self) -> Iterator[Step]:
        """TMDs with any flags."""
        r = self._random
        for i in reversed(range(min(r.randrange(1, 4), self._ring(TX).length - (r.random() < 0.95)))):
            size = r.choice((20, 60, 64, 200))
            yield from self._descriptor(TX, i, self._buffer(TX, size), size, r.choice((0x80, 0x81, 0x82, 0x83, 0x03)))

    def _lend(self) -> Iterator[Step]:
        r = self._random
        room = r.choice(_ROOMS)
        for i in range(r.choice((1, 1, 2, 4))):
            size = room if r.random() < 0.8 else r.choice(_ROOMS)
            flags = 0x80 | (r.getrandbits(7) if r.random() < 0.1 else 0)
            left = r.getrandbits(32) & 0x0FFF0FFF if r.random() < 0.1 else 0
            yield from self._descriptor(RX, i, self._buffer(RX, size), size, flags, left)

    def _arrive(self) -> Iterator[Step]:
        r = self._random
        size = r.choice(_SIZES) if r.random() < 0.95 else r.choice(_LONG)
        for _ in range(r.choice((1, 1, 2))):
            yield Inject(self._payload(size))

    def _kick(self) -> Iterator[Step]:
        yield self._csr(0, self._random.choice(_COMMANDS[-7:-1]) | 0x0008)

    def _ack(self) -> Iterator[Step]:
        yield self._csr(0)
        yield self._csr(0, self._random.choice((0x7F40, 0x7F00, 0x0640, 0x0240, 0x0440, 0x1040, 0x0140, 0x0040, 0)))

    def _masks(self) -> Iterator[Step]:
        yield self._csr(3, self._random.choice((0, 0x5F00, 0x0400, 0x0200, 0x0040, 0x5F40, 0xFFFF, 0x0100)))

    def _features(self) -> Iterator[Step]:
        r = self._random
        yield self._csr(4, r.choice(_CSR4S) if r.random() < 0.7 else r.getrandbits(16))
        yield self._csr(4)

    def _control(self) -> Iterator[Step]:
        r = self._random
        yield self._csr(5, r.choice(_CSR5S) if r.random() < 0.7 else r.getrandbits(16))
        yield self._csr(5)

    def _suspend(self) -> Iterator[Step]:
        """SPND, some registers, and on."""
        r = self._random
        yield self._csr(5, 0x0001)
        for _ in range(r.randrange(3)):
            yield self._csr(r.choice((8, 9, 12, 15, 47, 112)), r.choice(_VALUES))
        if r.random() < 0.5:
            yield self._csr(0, 0x0048)
        yield self._csr(5, 0)

    def _any_register(self) -> Iterator[Step]:
        r = self._random
        index = r.choice(_INTERESTING) if r.random() < 0.7 else r.randrange(128)
        value = r.choice(_VALUES) if r.random() < 0.6 else r.getrandbits(16)
        yield Reg(CSR if r.random() < 0.7 else BCR, index, None if r.random() < 0.4 else value)

    def _set_up(self) -> Iterator[Step]:
        r = self._random
        yield Reg(BCR, r.choice((2, 4, 5, 6, 7, 9, 18, 19, 20, 22)), r.getrandbits(16))

    def _any_port(self) -> Iterator[Step]:
        r = self._random
        value = None if r.random() < 0.6 else r.getrandbits(32)
        width = r.choice((1, 2, 2, 4))
        yield Port(r.randrange(33 - width), width, value if value is None else value & (1 << 8 * width) - 1)

    def _stop(self) -> Iterator[Step]:
        yield self._csr(0, self._random.choice((0x0004, 0x0004, 0x0044, 0x0007, 0x0006, 0x000C)))

    def _restart(self) -> Iterator[Step]:
        """STOP, registers that may be written now, and STRT without INIT."""
        r = self._random
        yield self._csr(0, 0x0004)
        for _ in range(r.randrange(3)):
            yield self._csr(r.choice((15, 8, 47, 112)), r.choice((*_MODES, *_VALUES)))
        if self._machine.csr(24):
            yield self._csr(0, r.choice((0x0002, 0x0042, 0x004A)))

    def _reset(self) -> Iterator[Step]:
        yield Reset()
        if self._random.random() < 0.8:
            yield from self._boot()

    def _wide(self) -> Iterator[Step]:
        """32-bit ports from now on."""
        if self._random.random() < 0.5:
            yield Port(0x10, 4, self._random.getrandbits(32))

    def _cable(self) -> Iterator[Step]:
        """Out, and in again a little later."""
        yield Link(False)
        for _ in range(self._random.randrange(4)):
            yield from self._random.choice((self._transmit, self._arrive, self._kick, self._ack))()
        if self._random.random() < 0.9:
            yield Link(True)

    def _hostile(self) -> Iterator[Step]:
        """Random bytes where they hurt, or an init block anywhere."""
        r = self._random
        if r.random() < 0.2:
            yield self._csr(1, r.getrandbits(16))
        at = r.choice((_INIT_BLOCK, _RINGS[RX], _RINGS[TX], r.randrange(WINDOW - 64)))
        yield Store(at + r.randrange(16), r.randbytes(r.choice((1, 4, 16, 48))))

    def _configuration(self) -> Iterator[Step]:
        r = self._random
        width = r.choice((1, 2, 4))
        offset = r.randrange(0, 0x40 if r.random() < 0.9 else 0x100, width)
        yield Config(offset, width, None if r.random() < 0.5 else r.getrandbits(8 * width))
