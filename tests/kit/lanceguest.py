"""A guest with a started Lance on a ``Board``: rings of one RMD and eight TMDs, frames that say their number."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from machine import layout
from tests.kit.board import MAC, RAP, RDP, Board, RawGuest

__all__ = ["BDP", "BUFFER", "FRAME_BYTES", "RESET", "LanceGuest", "busy", "started"]

RESET: Final = RDP + 4
BDP: Final = RDP + 6
FRAME_BYTES: Final = 64
BUFFER: Final = 0x8000
"""Guest address of the one receive buffer, 1544 bytes."""

_INIT_BLOCK: Final = 0x1000
_RX_RING: Final = 0x2000
_TX_RING: Final = 0x3000
_TX_BUFFERS: Final = 0x9000


class LanceGuest(RawGuest):
    """``start`` brings the chip up; RAP is a plain store where the vmm says that it is."""

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self._words = board.ram.cast("I")

    def start(self) -> None:
        """Init block, INIT, STRT, INEA; IDON acknowledged."""
        ram, words = self._board.ram, self._words
        block = b"\0\0\x00\x30" + MAC + bytes(10)  # TLEN 3: eight descriptors, RLEN 0: one
        ram[_INIT_BLOCK : _INIT_BLOCK + len(block)] = block
        words[_INIT_BLOCK // 4 + 5], words[_INIT_BLOCK // 4 + 6] = _RX_RING, _TX_RING
        self.lend()
        self.set_rap(20)
        self.write(BDP, 2, 2)
        for index, value in ((1, _INIT_BLOCK), (2, 0), (0, 0x0001), (0, 0x0142)):
            self.write_csr(index, value)

    def lend(self) -> None:
        """Gives the chip the RMD."""
        at = _RX_RING // 4
        self._words[at], self._words[at + 1] = BUFFER, 0x80000000 | 0xF000 | -1544 & 0xFFF

    def set_rap(self, index: int) -> None:
        if self._board.gate[layout.RAP_PORT] == 2 << 16 | RAP:
            self._board.gate[layout.RAP_STORE] = index
        else:
            self.write(RAP, 2, index)

    def write_csr(self, index: int, value: int) -> None:
        self.set_rap(index)
        self.write(RDP, 2, value)

    def queue(self, index: int) -> None:
        """Gives the chip TMD ``index``, whose frame consists of that number."""
        buffer = _TX_BUFFERS + FRAME_BYTES * index
        self._board.ram[buffer : buffer + FRAME_BYTES] = bytes([index]) * FRAME_BYTES
        at = _TX_RING // 4 + 4 * index
        self._words[at], self._words[at + 1] = buffer, 0x83000000 | 0xF000 | -FRAME_BYTES & 0xFFF

    def send(self, index: int) -> None:
        """Queues a frame and tells the chip, as Linux does: INEA and TDMD."""
        self.queue(index)
        self.write_csr(0, 0x0048)

    def sent(self) -> list[int]:
        """The numbers of the frames that have reached the wire since the last call."""
        numbers = []
        try:
            while True:
                numbers.append(self._board.wire.recv(2048)[0])
        except BlockingIOError:
            return numbers


@contextmanager
def started(**settings: object) -> Iterator[tuple[Board, LanceGuest]]:
    """A machine with these settings whose Lance is started; switches are counted from here on."""
    with Board(**settings) as board:  # type: ignore[arg-type]
        guest = LanceGuest(board)
        guest.map_lance()
        guest.start()
        guest.set_rap(0)
        board.switches.clear()
        yield board, guest


@contextmanager
def busy(**settings: object) -> Iterator[tuple[Board, LanceGuest]]:
    """The same with a threshold of 0, after a host tick: wherever combining is on, packets may wait."""
    with started(combine_threshold=0, **settings) as (board, guest):
        os.kill(os.getpid(), signal.SIGALRM)
        board.run_vmm()
        board.switches.clear()
        yield board, guest
