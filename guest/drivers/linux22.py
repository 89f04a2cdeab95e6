"""The driver of the paper's guest: Linux 2.2's pcnet32, access by access.

A lone packet sent costs 12 port accesses and one interrupt (paper section 4.3): two to send, ten in the
handler. The kernel adds five accesses to the 8259 pair around each handler (``guest.platform``).
"""

from __future__ import annotations

from itertools import count
from typing import Final

from guest.card import Card
from guest.cpu import Cpu
from guest.drivers.pcnet import Pcnet
from guest.events import Events
from machine.lance.bits import CSR0_ERR, CSR0_INEA, CSR0_INIT, CSR0_RINT, CSR0_STOP, CSR0_STRT, CSR0_TDMD, CSR0_TINT

__all__ = ["LOG_RX", "LOG_TX", "Linux22"]

LOG_TX: Final = 4  # TX_RING_SIZE 16, RX_RING_SIZE 32
LOG_RX: Final = 5

_SEND: Final = CSR0_INEA | CSR0_TDMD
_WORK: Final = CSR0_ERR | CSR0_RINT | CSR0_TINT  # 0x8600
_NOT_ACKNOWLEDGED: Final = CSR0_INEA | CSR0_TDMD | CSR0_STOP | CSR0_STRT | CSR0_INIT  # 0x004f
_ACKNOWLEDGE_MASK: Final = 0xFFFF & ~_NOT_ACKNOWLEDGED
_LEAVE: Final = 0x7940  # clears BABL, CERR, MISS, MERR, IDON; INEA on
_MAX_INTERRUPT_WORK: Final = 20
_TURNS: Final = 64  # of the loop between two looks at the clock, and so at the kernel; a power of two


class Linux22:
    """``stack_events``: polls wake descriptor and stack; ``chip_events``: the wake descriptor alone.

    ``card``: what the guest's kernel wants of the chip; None: nothing but what ``open`` has been told.
    """

    def __init__(self, chip: Pcnet, stack_events: Events, chip_events: Events, card: Card | None = None) -> None:
        self._chip = chip
        self._card = Card(chip) if card is None else card
        self._stack_events = stack_events
        self._chip_events = chip_events

    def run(self) -> None:
        """The idle loop: sends what the stack has, one kick a frame, and halts when it has nothing."""
        chip, cpu, card = self._chip, self._chip.cpu, self._card
        last = chip.tx_size - 1  # the driver keeps one descriptor free
        for turn in count():
            cpu.cli()
            if not turn % _TURNS:
                card.look_if_due()
            if card.wanted is not None:
                card.apply()
            if not chip.up:
                cpu.hlt(self._chip_events)  # frames stay in the stack, as in a queue that has been stopped
            elif chip.tx_used >= last:
                chip.note_ring_full()
                cpu.hlt(self._chip_events)
            elif chip.queue_from_stack():
                self._kick(cpu)
                cpu.sti()
            else:
                cpu.hlt(self._stack_events)

    def _kick(self, cpu: Cpu) -> None:
        cpu.write_port(self._chip.rap, 2, 0)
        cpu.write_port(self._chip.rdp, 2, _SEND)

    def interrupt(self) -> None:
        """pcnet32_interrupt(): save RAP, work until CSR0 shows none, interrupts on, restore RAP."""
        chip = self._chip
        cpu, rap, rdp = chip.cpu, chip.rap, chip.rdp
        saved = cpu.read_port(rap, 2)
        cpu.write_port(rap, 2, 0)
        csr0 = cpu.read_port(rdp, 2)
        for _ in range(_MAX_INTERRUPT_WORK):
            if not csr0 & _WORK:
                break
            cpu.write_port(rap, 2, 0)
            cpu.write_port(rdp, 2, csr0 & _ACKNOWLEDGE_MASK)
            if csr0 & CSR0_RINT:
                chip.receive(chip.rx_size)
            if csr0 & CSR0_TINT:
                chip.reclaim()
            cpu.write_port(rap, 2, 0)
            csr0 = cpu.read_port(rdp, 2)
        cpu.write_port(rap, 2, 0)
        cpu.write_port(rdp, 2, _LEAVE)
        cpu.write_port(rap, 2, saved)
