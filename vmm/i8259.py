"""One 8259A programmable interrupt controller, as a PC wires it.

Sources: Intel 8259A data sheet (order 231468) and application note AP-59; for level-triggered inputs the
82371SB (PIIX3) data sheet, whose edge/level control registers take the place of ICW1's LTIM bit.

Fixed by the wiring, hence not modelled: MCS-80 vectors, buffered mode, LTIM. Power-up state: all masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from machine.ports import PIC_EOI, PIC_SPECIFIC_EOI
from machine.ring import KIND_IN

__all__ = ["Pic8259"]

_ICW1: Final = 0x10  # tells ICW1 from OCW2 and OCW3
_ICW1_SINGLE: Final = 0x02  # no ICW3, no cascade
_ICW1_IC4: Final = 0x01  # ICW4 follows
_ICW4_SFNM: Final = 0x10  # special fully nested mode
_ICW4_AEOI: Final = 0x02  # automatic EOI
_OCW3: Final = 0x08  # tells OCW3 from OCW2
_OCW3_ESMM: Final = 0x40  # SMM is meant
_OCW3_SMM: Final = 0x20  # special mask mode
_OCW3_POLL: Final = 0x04
_OCW3_RR: Final = 0x02  # RIS is meant
_OCW3_RIS: Final = 0x01  # read the ISR, not the IRR
_OCW2_ROTATE: Final = 0x80
_OCW2_SPECIFIC: Final = 0x40
_OCW2_COMMAND: Final = 0xE0  # R, SL, EOI
_POLL_REQUEST: Final = 0x80  # poll byte: there was a request

_SPURIOUS_INPUT: Final = 7  # what a chip answers when the request has gone away before INTA
_NO_REQUEST: Final = -1


class Pic8259:
    """One 8259A. As a port handler it has two ports: offset 0 is A0 low, offset 1 A0 high.

    ``drive_int(level)`` is called when the INT output changes; ``master`` is the SP# strap. Inputs are
    numbered 0 to 7; the registers have a bit per input.

    An input's request is withdrawn when its line drops before INTA, in edge mode too: the data sheet then
    promises the default vector 7. The modes differ in INTA alone, which consumes an edge but not a level.
    """

    leaves_vmm = False

    __slots__ = (
        "_auto_eoi",
        "_drive_int",
        "_imr",
        "_int",
        "_irr",
        "_isr",
        "_lines",
        "_master",
        "_nested",
        "_next_icw",
        "_poll",
        "_read_isr",
        "_rotate_on_auto_eoi",
        "_skip_icw3",
        "_special_mask",
        "_top",
        "_unmasked",
        "_wants_icw4",
        "icw3",
        "level_triggered",
        "spurious",
        "vector_base",
    )

    def __init__(self, drive_int: Callable[[int], None], *, master: bool) -> None:
        self._drive_int = drive_int
        self._master = master
        self._int = 0
        self._lines = 0
        self.level_triggered = 0
        self.vector_base = 0
        self.spurious = 0  # INTA sequences that found no request
        self._reset(0)
        self._next_icw = 0
        self._imr = 0xFF

    def _reset(self, icw1: int) -> None:
        """ICW1, "the following automatically occurs" (data sheet); also the state ahead of any ICW1."""
        self._next_icw = 2
        self._skip_icw3 = icw1 & _ICW1_SINGLE
        self._wants_icw4 = icw1 & _ICW1_IC4
        self._irr = self._lines & self.level_triggered  # an edge must come anew
        self._isr = 0
        self._imr = 0
        self._unmasked = 0  # complement of the IMR, except that nothing gets through during initialization
        self.icw3 = 0 if self._master else 7  # master: inputs that have slaves; slave: its identity
        self._top = 0  # input of highest priority; the others follow in circular order
        self._nested = 0  # inputs whose requests interrupt their own service (special fully nested mode)
        self._auto_eoi = 0
        self._rotate_on_auto_eoi = 0
        self._special_mask = 0
        self._poll = 0
        self._read_isr = 0

    # -- the guest's side ------------------------------------------------------------------------------

    def bind(self, _key: int, kind: int, offset: int, width: int) -> Callable[[int], int]:
        """The access of this kind, offset and width as a function of the value written (``vmm.dispatch``)."""
        if kind == KIND_IN:
            return self.read_data if (offset, width) == (1, 1) else lambda _value: self.read(offset, width)
        if width == 1:
            return self.write_data if offset else self.write_command
        return lambda value: self.write(offset, width, value)

    def read(self, offset: int, width: int) -> int:
        """IN, byte by byte as the ISA bus splits it."""
        return sum((self.read_data() if offset + i else self._read_command()) << 8 * i for i in range(width))

    def write(self, offset: int, width: int, value: int) -> int:
        """OUT, byte by byte as the ISA bus splits it. Always finished: answers 0."""
        for i in range(width):
            if offset + i:
                self.write_data(value >> 8 * i)
            else:
                self.write_command(value >> 8 * i)
        return 0

    def read_data(self, _value: int = 0) -> int:
        """IN, A0 high: the IMR; the poll byte if a poll command came before."""
        return self._read_poll() if self._poll else self._imr

    def _read_command(self) -> int:
        if self._poll:
            return self._read_poll()
        return self._isr if self._read_isr else self._irr

    def write_data(self, value: int) -> int:
        """OUT, A0 high: OCW1, or the ICW2 to ICW4 that is due. Answers 0."""
        if self._next_icw:
            self._write_icw(value & 0xFF)
        else:
            self._imr = value = value & 0xFF
            self._unmasked = value ^ 0xFF
        self._update()
        return 0

    def write_command(self, value: int) -> int:
        """OUT, A0 low: ICW1, OCW2 or OCW3. Answers 0."""
        value &= 0xFF
        if value == PIC_EOI:
            self._isr &= ~self._first_in_service()
        elif value & 0xF8 == PIC_SPECIFIC_EOI:
            self._isr &= ~(1 << (value & 7))
        elif value & _ICW1:
            self._reset(value)
        elif value & _OCW3:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)
        self._update()
        return 0

    def _write_icw(self, value: int) -> None:
        step = self._next_icw
        if step == 2:
            self.vector_base = value & 0xF8
            self._next_icw = 3
        elif step == 3:
            self.icw3 = value
            self._next_icw = 4
        else:
            self._auto_eoi = value & _ICW4_AEOI
            self._nested = self.icw3 if value & _ICW4_SFNM and self._master else 0
            self._next_icw = 0
        if self._next_icw == 3 and self._skip_icw3:
            self._next_icw = 4
        if self._next_icw == 4 and not self._wants_icw4:
            self._next_icw = 0
        if not self._next_icw:
            self._unmasked = self._imr ^ 0xFF

    def _write_ocw2(self, value: int) -> None:
        bit = 1 << (value & 7) if value & _OCW2_SPECIFIC else self._first_in_service()
        if value & PIC_EOI:
            self._isr &= ~bit
        elif not value & _OCW2_SPECIFIC:  # R alone: rotation in automatic EOI mode, on or off
            self._rotate_on_auto_eoi = value & _OCW2_ROTATE
            return
        if value & _OCW2_ROTATE and bit:
            self._top = bit.bit_length() & 7  # the input after this one

    def _write_ocw3(self, value: int) -> None:
        if value & _OCW3_ESMM:
            self._special_mask = value & _OCW3_SMM
        if value & _OCW3_RR:
            self._read_isr = value & _OCW3_RIS
        self._poll = value & _OCW3_POLL

    def _read_poll(self) -> int:
        self._poll = 0
        level = self._take()
        return _SPURIOUS_INPUT if level == _NO_REQUEST else _POLL_REQUEST | level

    # -- the wires -------------------------------------------------------------------------------------

    def set_line(self, line: int, level: int) -> None:
        """An input line (0-7) is now low (0) or high (anything else)."""
        bit = 1 << line
        if level:
            if self._lines & bit:
                return
            self._lines |= bit
            self._irr |= bit
        else:
            self._lines &= ~bit
            self._irr &= ~bit
        self._update()

    def set_level_triggered(self, inputs: int) -> None:
        """The ELCR: inputs whose bit is 1 request for as long as their line is high."""
        self.level_triggered = inputs
        self._irr |= self._lines & inputs
        self._update()

    def acknowledge(self) -> int:
        """INTA: the input whose service begins (0-7), or 7, with nothing in service, if there is no request."""
        level = self._take()
        if level == _NO_REQUEST:
            self.spurious += 1
            return _SPURIOUS_INPUT
        return level

    def _take(self) -> int:
        bit = self._candidate()
        if not bit:
            return _NO_REQUEST
        if not bit & self.level_triggered:
            self._irr &= ~bit
        # INT drops even if a further request follows at once: the master's input needs an edge to see it.
        if self._int:
            self._int = 0
            self._drive_int(0)
        if not self._auto_eoi:
            self._isr |= bit
        elif self._rotate_on_auto_eoi:
            self._top = bit.bit_length() & 7
        if self._auto_eoi or self._nested:  # else the service that begins holds off all that is left
            self._update()
        return bit.bit_length() - 1

    # -- priority --------------------------------------------------------------------------------------

    def _update(self) -> None:
        """Drives INT anew; every change of the registers ends here."""
        level = 1 if self._irr & self._unmasked and (not self._isr or self._candidate()) else 0
        if level != self._int:
            self._int = level
            self._drive_int(level)

    def _candidate(self) -> int:
        """The bit of the request that may interrupt now; 0 if there is none."""
        request = self._first(self._irr & self._unmasked)
        if not self._isr:
            return request
        service = self._first_in_service()
        if request == service:
            return request & self._nested
        return request if self._first(request | service) == request else 0  # 0 too if there is no request

    def _first(self, bits: int) -> int:
        """Of ``bits``, the one of highest priority; 0 if there are none."""
        bits = bits >> self._top << self._top or bits
        return bits & -bits

    def _first_in_service(self) -> int:
        """What a non-specific EOI ends; in special mask mode it passes over masked inputs."""
        return self._first(self._isr & self._unmasked if self._special_mask else self._isr)

    def snapshot(self) -> dict[str, int]:
        """Registers and modes, for status displays."""
        return {
            "irr": self._irr,
            "isr": self._isr,
            "imr": self._imr,
            "lines": self._lines,
            "level_triggered": self.level_triggered,
            "vector_base": self.vector_base,
            "icw3": self.icw3,
            "next_icw": self._next_icw,
            "top_priority": self._top,
            "auto_eoi": int(self._auto_eoi != 0),
            "special_mask": int(self._special_mask != 0),
            "int": self._int,
            "spurious": self.spurious,
        }
