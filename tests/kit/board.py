"""A whole virtual PC in one process: shared pages, doorbells and descriptors, with vmm and vmapp run step by step.

The two loops are the real ones, as their ``main`` prepares them, and run until they would sleep. Ringing the vmm
runs the monitor; ringing vmapp runs the host world. What the guest does is up to the test: with ``RawGuest``, word
by word, or with a ``guest.cpu.Cpu`` on ``board.station("guest")``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

from machine import layout, ring, signalpipe, world
from machine.config import make_settings
from machine.control import Channel
from machine.counters import indices
from machine.launch import IRQ_SIGNAL, ROLES, SETTINGS_SIGNAL, Station
from machine.ports import LANCE_DEFAULT_BASE
from machine.wiring import interrupt
from tests.kit.bells import Idle, ScriptedBell
from tests.kit.impostor import prepared

__all__ = ["MAC", "RAP", "RDP", "Board", "RawGuest", "kept_signals", "readable"]

RDP: Final = LANCE_DEFAULT_BASE + 0x10
RAP: Final = LANCE_DEFAULT_BASE + 0x12
MAC: Final = bytes.fromhex("525400c61200")
_HANDLED: Final = (signal.SIGIO, signal.SIGALRM, SETTINGS_SIGNAL, IRQ_SIGNAL)
_EVENTS: Final = ("kick", "wake")
_INTERRUPTED: Final = ("guest", "vmapp")


def readable(fd: int) -> bool:
    """Whether a read of ``fd`` would find something now."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def kept_signals() -> Iterator[None]:
    """Puts back what the code under test does to this process's signals: handlers, mask, interval timer."""
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


class RawGuest:
    """A guest that posts slots in ring order and looks at every word itself."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.base = 0
        self.sequence = 0

    def post(self, key: int, value: int = 0) -> int:
        """Posts a request without telling anybody; the slot's first word."""
        gate, base = self._board.gate, self.base
        assert gate[base] == ring.FREE
        self.sequence += 1
        gate[base + ring.VALUE] = value
        gate[base + ring.SEQUENCE] = self.sequence
        gate[base + ring.KEY] = key
        gate[base] = ring.POSTED
        self.base = (base + ring.SLOT_WORDS) % ring.RING_WORDS
        return base

    def take(self, base: int) -> int:
        """Takes the slot back, which must be complete and not refused; the result."""
        gate = self._board.gate
        assert gate[base] == ring.COMPLETE
        assert gate[base + ring.ERROR] == ring.OK
        gate[base] = ring.FREE
        return gate[base + ring.RESULT]

    def trap(self, key: int, value: int = 0) -> int:
        """One request from start to end."""
        base = self.post(key, value)
        self._board.bells["vmm"].ring()
        return self.take(base)

    def read(self, port: int, width: int) -> int:
        return self.trap(ring.pack_key(ring.KIND_IN, width, port))

    def write(self, port: int, width: int, value: int) -> None:
        self.trap(ring.pack_key(ring.KIND_OUT, width, port), value)

    def halt(self) -> int:
        """HLT: posts it and gives up the processor; the slot's first word."""
        base = self.post(ring.pack_key(ring.KIND_HLT, 0, 0))
        self._board.bells["vmm"].ring()
        return base

    def take_interrupt(self) -> int:
        """The vector in the mailbox, which must hold one."""
        posted = self._board.gate[layout.INTERRUPT_MAILBOX]
        self._board.gate[layout.INTERRUPT_MAILBOX] = 0
        assert posted
        return posted - 1

    # -- what a kernel and its driver do, with as few accesses as possible ----------------------------------

    def map_lance(self, base: int = LANCE_DEFAULT_BASE, command: int = 0x0005) -> None:
        """Puts BAR 0 at ``base``; the command register switches I/O decoding and bus mastering on."""
        for register, value in ((0x10, base), (0x04, command)):
            self.write(0xCF8, 4, 0x80000000 | 4 << 11 | register)
            self.write(0xCFC, 4, value)

    def open_interrupts(self) -> None:
        """Programs the 8259 pair as Linux 2.2 does and unmasks the cascade and IRQ 11."""
        for command, data, base, cascade, mask in ((0x20, 0x21, 0x20, 4, 0xFB), (0xA0, 0xA1, 0x28, 2, 0xF7)):
            self.write(command, 1, 0x11)
            for word in (base, cascade, 1, mask):
                self.write(data, 1, word)

    def write_csr(self, index: int, value: int) -> None:
        self.write(RAP, 2, index)
        self.write(RDP, 2, value)

    def raise_line(self) -> None:
        """Has the Lance raise INTA#: INEA on, then a user interrupt (CSR4.UINTCMD)."""
        self.write_csr(0, 0x0040)
        self.write_csr(4, 0x0080 | 0x0115)


class Board:
    """Context manager. ``settings`` as in ``machine.config``; ``vmapp``: what it does when rung, if not the real one.

    ``wire`` is the far end of the host TAP, ``stack`` that of the guest's; ``controls`` the supervisor's ends.
    """

    def __init__(self, vmapp: Callable[[Board], None] | None = None, **settings: object) -> None:
        # No moderation: what a test provokes must not depend on how long ago the last switch was.
        self.settings = make_settings({"ram_mib": 1, "tick_ms": 1000, "moderation_us": 0}, settings)
        self.ram = memoryview(bytearray(self.settings.ram_mib << 20))
        self.gate = memoryview(bytearray(layout.GATE_BYTES)).cast("Q")
        page = memoryview(bytearray(layout.WORLD_BYTES))
        self.world, self.lance = page.cast("Q"), page[layout.LANCE_OFFSET :].cast("I")
        self.pages = {role: memoryview(bytearray(layout.COUNTER_PAGE_BYTES)).cast("Q") for role in ROLES}
        self.bells = {role: ScriptedBell() for role in ROLES}
        self.irq_signals = 0
        self.interrupted: list[str] = []
        self.switches: list[int] = []
        self._vmapp = vmapp
        self._loops: dict[str, Callable[[], None]] = {}
        self._running: set[str] = set()

    def __enter__(self) -> Board:
        self._signals = kept_signals()
        self._signals.__enter__()
        self.fds = {name: os.eventfd(0, os.EFD_CLOEXEC) for name in _EVENTS}
        for role in _INTERRUPTED:
            self.fds[interrupt(role)], self.fds[f"{interrupt(role)}-writer"] = signalpipe.make()
        self.wire, self._host_tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.stack, self._guest_tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.wire, self._host_tap, self.stack, self._guest_tap):
            end.setblocking(False)
        pairs = {role: Channel.pair() for role in ROLES}
        self.controls = {role: pair[0] for role, pair in pairs.items()}
        self._ends = {role: pair[1] for role, pair in pairs.items()}
        self._loops["vmm"] = prepared("vmm", self.station("vmm"))
        self._loops["vmapp"] = prepared("vmapp", self.station("vmapp"))
        signal.signal(IRQ_SIGNAL, self._on_irq_signal)
        self.bells["vmm"].on_ring = self.run_vmm
        self.bells["vmm"].on_sleep = self._wake_vmapp
        self.bells["vmapp"].on_ring = self._switch
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds.values():
            os.close(fd)
        for end in (self.wire, self._host_tap, self.stack, self._guest_tap):
            end.close()
        for channel in (*self.controls.values(), *self._ends.values()):
            channel.close()
        self._signals.__exit__(None, None, None)

    def station(self, role: str) -> Station:
        """The role's view of the machine, as ``machine.launch`` would map it."""
        nothing = memoryview(b"")
        taps = {"guest": self._guest_tap.fileno(), "vmapp": self._host_tap.fileno()}
        return Station(
            role=role,
            settings=self.settings,
            control=self._ends[role],
            ram=nothing if role == "vmm" else self.ram,
            gate=self.gate,
            world=nothing if role == "guest" else self.world,
            lance=nothing if role == "guest" else self.lance,
            counters=self.pages[role],
            bells=dict(self.bells),
            interrupts={name: partial(self._interrupt, name) for name in _INTERRUPTED},
            fds=self.fds | ({"tap": taps[role]} if role in taps else {}),
            mac=MAC,
        )

    def run_vmm(self) -> None:
        """Runs the monitor until it would sleep."""
        self._run("vmm")

    def answer(self) -> None:
        """Runs vmapp until it would sleep; it must have the processor."""
        assert self.world[world.WORLD] == world.HOST_WORLD
        self._run("vmapp")

    def counter(self, role: str, name: str) -> int:
        """One counter, by name."""
        return self.pages[role][indices(role)[name]]

    def bad_requests(self) -> int:
        """Trap requests that the vmm refused."""
        return self.counter("vmm", "bad_requests")

    def port(self, number: int) -> tuple[int, int, int]:
        """(reads, writes, ns) of a port in the vmm's table; zeros if it has no entry."""
        page = self.pages["vmm"]
        entries = range(layout.PORT_TABLE, layout.PORT_TABLE + layout.PORT_SLOTS * layout.PORT_WORDS, layout.PORT_WORDS)
        for entry in entries:
            if page[entry] == number + 1:
                return page[entry + 1], page[entry + 2], page[entry + 3]
        return 0, 0, 0

    def _run(self, role: str) -> None:
        if role in self._running:
            return  # rung while it runs: it looks at memory again by itself
        self._running.add(role)
        try:
            self._loops[role]()
        except Idle:
            pass
        finally:
            self._running.remove(role)

    def _switch(self) -> None:
        """The host world gets the processor. An idle guest leaves vmapp asleep, but for what has happened."""
        reason = self.world[world.REASON]
        self.switches.append(reason)
        if self._vmapp is not None:
            self._vmapp(self)
        elif reason != world.REASON_HLT:
            self.answer()
        else:
            self._wake_vmapp()

    def _wake_vmapp(self) -> bool:
        """Whether vmapp, asleep in select() for an idle guest, has been woken by anything."""
        asleep = self._vmapp is None and self.world[world.WORLD] == world.HOST_WORLD
        if not asleep or not (readable(self.fds["kick"]) or readable(self._host_tap.fileno())):
            return False
        self.answer()
        return True

    def _interrupt(self, role: str) -> None:
        """A byte in the pipe and the signal, which the kernel would make of it for a process of its own."""
        signalpipe.sender(self.fds[f"{interrupt(role)}-writer"])()
        self.interrupted.append(role)
        signal.raise_signal(IRQ_SIGNAL)

    def _on_irq_signal(self, _number: int, _frame: FrameType | None) -> Any:
        self.irq_signals += 1
