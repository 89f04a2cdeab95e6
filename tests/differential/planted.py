"""For each known error a short sequence that runs into it: with its row nothing differs, without it something does."""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from tests.differential.steps import BCR, CSR, Config, Inject, Link, Port, Reg, Reset, Step, Store
from vmapp.lance.testkit import MAC

__all__ = ["PLANTED"]

_BLOCK: Final = 0x0100
_RX: Final = 0x1000
_TX: Final = 0x2000
_RX_BUFFERS: Final = 0x4000
_TX_BUFFERS: Final = 0xA000
_DPOLL: Final = 0x1115
_OTHER: Final = bytes.fromhex("020000000001")
_DWIO: Final = Port(0x10, 4, 0)


def _csr(index: int, value: int | None = None) -> Step:
    return Reg(CSR, index, value)


def _bcr(index: int, value: int) -> Step:
    return Reg(BCR, index, value)


def _block(mode: int = 0, rlen: int = 3, tlen: int = 3, tx: int = _TX) -> Step:
    return Store(_BLOCK, struct.pack("<HH6sH8sII", mode, rlen << 4 | tlen << 12, MAC, 0, bytes(8), _RX, tx))


def _boot(mode: int = 0, *, csr4: int = 0x0115, style: int = 2, start: int = 0x0043, tlen: int = 3, tx: int = _TX
          ) -> list[Step]:  # fmt: skip
    """Init block, INIT, STRT and INEA; eight descriptors in each ring."""
    block = _block(mode, 3, tlen, tx)
    return [_bcr(20, style), block, _csr(1, _BLOCK), _csr(2, 0), _csr(4, csr4), _csr(0, start)]


def _tmd(index: int, size: int, flags: int = 0x83, *, result: int = 0, address: int | None = None, ring: int = _TX,
         ones: int = 0xF000) -> Step:  # fmt: skip
    buffer = _TX_BUFFERS + 0x400 * index if address is None else address
    return Store(ring + 16 * index, struct.pack("<IIII", buffer, flags << 24 | ones | -size & 0xFFF, result, 0))


def _rmd(index: int, room: int = 1544, flags: int = 0x80, *, result: int = 0, ones: int = 0xF000) -> Step:
    buffer = _RX_BUFFERS + 0x800 * index
    return Store(_RX + 16 * index, struct.pack("<IIII", buffer, flags << 24 | ones | -room & 0xFFF, result, 0))


def _frame(size: int = 100, to: bytes = MAC, kind: int = 0x0800) -> Step:
    return Inject((to + _OTHER + kind.to_bytes(2, "big") + bytes(range(256)) * 6)[:size])


_WITH_FCS: Final = Store(_TX_BUFFERS + 96, crc32(bytes(96)).to_bytes(4, "little"))
_DOWN: Final = Link(up=False)
_KICK: Final = _csr(0, 0x0048)
_STOP: Final = _csr(0, 0x0004)
_STRT: Final = _csr(0, 0x0002)

PLANTED: Final[dict[str, list[Step]]] = {
    "reserved-bits": [_csr(3, 0xA083)],
    "read-only-bits": [_bcr(19, 0xE000)],
    "running-writes": [*_boot(), _csr(8, 0x1234)],
    "led-gate": [_bcr(4, 0)],
    "working-registers": [*_boot(), _rmd(0)],
    "ring-bases": _boot(),
    "fixed-registers": [_csr(80, 0)],
    "positive-counters": [],
    "length-of-zero": [_csr(76, 0)],
    "counter-with-length": [_csr(76, 0xFFF8)],
    "aprom-width": [_DWIO, Port(0x00, 1)],
    "csr103": [_csr(103)],
    "io-base": [_bcr(16, 0x1220)],
    "misaligned-access": [Port(0x01, 2)],
    "unknown-style": [_bcr(20, 0x0404)],
    "stop-alone": [_csr(0, 0x0044)],
    "txon-after-stop": [*_boot(), _STOP],
    "tdmd-while-suspended": [*_boot(csr4=_DPOLL), _csr(5, 1), _tmd(0, 100), _KICK],
    "magic-packet": [*_boot(), _csr(5, 0x0006), _tmd(0, 100)],
    "tdmd-stays": [*_boot(csr4=_DPOLL), _KICK],
    "init-while-started": [*_boot(), _STOP, _STRT, _block(mode=0x0002), _csr(0, 0x0001)],
    "uint": [_csr(4, 0x0195)],
    "txstrt": [*_boot(), _tmd(0, 100)],
    "mfco": [_csr(112, 0xFFFF), *_boot(), _frame()],
    "counter-beyond-ring": [*_boot(), _STOP, _csr(74, 0xFF00), _STRT, _tmd(0, 100)],
    "memory-error": [*_boot(), _tmd(0, 100, address=0x20000)],
    "dwio-after-reset": [*_boot(), _DWIO, Reset()],
    "lengths-after-reset": [*_boot(), Reset()],
    "rings-after-reset": [*_boot(), _STOP, Reset(), _STRT, _tmd(0, 100)],
    "ring-at-zero": [*_boot(tx=0), _tmd(0, 100, ring=0)],
    "pad": [*_boot(csr4=0x0915), _tmd(0, 40)],
    "own-fcs": [*_boot(mode=0x0008), _tmd(0, 100)],
    "babble": [*_boot(), _tmd(0, 1600)],
    "long-frame": [*_boot(csr4=_DPOLL), _tmd(0, 3000, 0x82), _tmd(1, 2000, 0x81), _KICK],
    "stp-within": [*_boot(csr4=_DPOLL), _tmd(0, 100, 0x82), _tmd(1, 100, 0x83), _KICK],
    "endless-chain": [*_boot(tlen=0), _tmd(0, 100, 0x82)],
    "underflow-place": [*_boot(csr4=_DPOLL), _tmd(0, 100, 0x82), _tmd(1, 100, 0x80), _KICK],
    "tmd-left-overs": [*_boot(), _tmd(0, 100, 0xCF, result=0x123)],
    "ltint": [*_boot(), _csr(5, 0x4000), _tmd(0, 100)],
    "tint-of-skipped": [*_boot(), _csr(5, 0x8000), _tmd(0, 100, 0x81)],
    "tmd-ones": [*_boot(), _tmd(0, 100, ones=0x7000)],
    "loop-collision": [*_boot(mode=0x0054), _rmd(0), _tmd(0, 100)],
    "loop-of-short-frames": [*_boot(mode=0x8044), _rmd(0), _tmd(0, 40)],
    "loop-with-own-fcs": [*_boot(mode=0x804C), _rmd(0), _WITH_FCS, _tmd(0, 100)],
    "err-stays": [*_boot(), _DOWN, _tmd(0, 100), _csr(0, 0x2040)],
    "lcar-place": [*_boot(csr4=_DPOLL), _DOWN, _tmd(0, 100, 0x82), _tmd(1, 100, 0x81), _KICK],
    "lcar-broken-chain": [*_boot(), _DOWN, _tmd(0, 100, 0x82)],
    "lcar-tint": [*_boot(), _csr(5, 0x8000), _DOWN, _tmd(0, 100)],
    "inner-loop": [*_boot(mode=0x8044), _DOWN, _rmd(0), _tmd(0, 100)],
    "tmauloop": [_bcr(2, 0x4002), *_boot(mode=0x8004), _DOWN, _rmd(0), _tmd(0, 100)],
    "short-frame": [*_boot(), _rmd(0), _frame(14)],
    "receives-before-start": [*_boot(start=0x0001), _rmd(0), _frame()],
    "receiver-switch": [*_boot(), _rmd(0), _csr(5, 1), _csr(15, 1), _csr(5, 0), _frame()],
    "rmd-must-be": [*_boot(), _rmd(0, ones=0x7000), _frame()],
    "searches-ring": [*_boot(), _rmd(1), _frame()],
    "three-buffers": [*_boot(), *(_rmd(i, 64) for i in range(5)), _frame(300)],
    "strip": [*_boot(csr4=0x0515), _rmd(0), _frame(60, kind=0x0010)],
    "receive-fcs": [*_boot(), _rmd(0), _frame()],
    "rejected-frame": [*_boot(), _rmd(0), _frame(to=_OTHER)],
    "rmd-left-overs": [*_boot(), _rmd(0, flags=0x88, result=0x00120000), _frame()],
    "latency-alias": [_bcr(22, 0x1234), Config(0x3C, 4)],
    "latency-timer": [Config(0x0D, 1, 0x40)],
    "cache-line-size": [Config(0x0C, 1, 0x08)],
    "parity-response": [Config(0x04, 2, 0x0045)],
    "interrupt-status": [*_boot(), Config(0x06, 2)],
    "beyond-header": [Config(0x40, 4, 1)],
}  # fmt: skip
