"""Random rings and frames against a model that fits a page: what goes in comes out, in order, with its length."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from zlib import crc32

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from vmapp.lance.testkit import MAC, RX, TX, Rig

OTHER = bytes.fromhex("020000000001")
TX_AREA, RX_AREA, SLOT = 0x40000, 0x80000, 0x1000


class RingModel(RuleBasedStateMachine):
    """The driver and the far end of the wire; ``expected`` lists are all the model there is."""

    frames = Bundle("frames")

    @initialize(style=st.sampled_from([0, 1, 2, 3]), rx_log2=st.integers(0, 5), tx_log2=st.integers(0, 5))
    def start(self, style: int, rx_log2: int, tx_log2: int) -> None:
        self.rig = Rig(style)
        self.rig.boot(rx_log2=rx_log2, tx_log2=tx_log2)
        self.rx_count, self.tx_count = 1 << rx_log2, 1 << tx_log2
        self.tx_next = self.rx_lend = self.rx_take = 0
        self.tx_queued = 0
        self.rooms: deque[int] = deque()
        self.expect_sent: list[bytes] = []
        self.expect_received: deque[bytes] = deque()

    @rule(target=frames, size=st.integers(14, 1514), fill=st.integers(0, 255))
    def make_frame(self, size: int, fill: int) -> bytes:
        return MAC + OTHER + bytes((fill + i) & 0xFF for i in range(size - 12))

    @rule(frame=frames, cuts=st.lists(st.integers(1, 1513), max_size=4))
    def queue(self, frame: bytes, cuts: list[int]) -> None:
        """The driver queues a frame, cut into as many TMDs as are free."""
        edges = sorted({0, len(frame), *(cut for cut in cuts if cut < len(frame))})
        pieces = [frame[a:b] for a, b in pairwise(edges)]
        if self.tx_queued + len(pieces) > self.tx_count:
            return
        for number, piece in enumerate(pieces):
            index = self.tx_next % self.tx_count
            address = TX_AREA + index * 0x800
            self.rig.ram[address : address + len(piece)] = piece
            flags = 0x80 | (2 if number == 0 else 0) | (1 if number == len(pieces) - 1 else 0)
            self.rig.put(TX, index, address, len(piece), flags)
            self.tx_next += 1
        self.tx_queued += len(pieces)
        self.expect_sent.append(frame + bytes(max(0, 60 - len(frame))))

    @rule(by_poll=st.booleans())
    def transmit(self, by_poll: bool) -> None:
        """All that was queued is on the wire, and every TMD is back."""
        if by_poll:
            self.rig.engine.poll()
        else:
            self.rig.kick()
        assert self.rig.port.sent == self.expect_sent
        assert not any(self.rig.get(TX, i).owned for i in range(self.tx_count))
        self.tx_queued = 0

    @precondition(lambda self: self.rx_lend - self.rx_take < self.rx_count)
    @rule(room=st.sampled_from([16, 64, 128, 600, 1514, 1518, 1544, 4096]))
    def lend(self, room: int) -> None:
        """The driver lends one more buffer."""
        index = self.rx_lend % self.rx_count
        self.rig.put(RX, index, RX_AREA + index * SLOT, room, 0x80)
        self.rooms.append(room)
        self.rx_lend += 1

    @rule(frame=frames, stranger=st.booleans())
    def arrive(self, frame: bytes, stranger: bool) -> None:
        """A frame is on the wire; only those for this station are expected."""
        self.rig.port.waiting.append((OTHER if stranger else MAC) + frame[6:])
        if not stranger:
            padded = frame + bytes(max(0, 60 - len(frame)))
            self.expect_received.append(padded + crc32(padded).to_bytes(4, "little"))

    @rule(burst=st.integers(1, 80))
    def receive(self, burst: int) -> None:
        """The chip receives; the driver collects, frame by frame, what RMDs came back."""
        taken = self.rig.engine.receive(burst)
        assert taken <= burst
        while self.rooms and not self.rig.get(RX, self.rx_take % self.rx_count).owned:
            self.collect()
        waiting_for_us = sum(frame[:6] == MAC for frame in self.rig.port.waiting)
        assert waiting_for_us == len(self.expect_received)

    def collect(self) -> None:
        """One frame out of the ring: whole and as expected, or cut off because the lent buffers ended."""
        wanted, got, first = self.expect_received.popleft(), b"", True
        while True:
            index = self.rx_take % self.rx_count
            rmd, room = self.rig.get(RX, index), self.rooms.popleft()
            self.rx_take += 1
            assert bool(rmd.flags & 0x02) == first
            first = False
            got += bytes(self.rig.ram[RX_AREA + index * SLOT : RX_AREA + index * SLOT + room])
            if rmd.flags & 0x01:
                assert rmd.result == len(wanted)
                assert got[: len(wanted)] == wanted
                return
            if rmd.flags & 0x40:
                assert not self.rooms, "an overrun although a buffer was lent"
                assert got == wanted[: len(got)]
                assert len(got) < len(wanted)
                return

    @invariant()
    def memory_is_safe(self) -> None:
        assert not hasattr(self, "rig") or self.rig.guards_intact


RingModel.TestCase.settings = settings(stateful_step_count=30, deadline=None)
TestRingModel = RingModel.TestCase
