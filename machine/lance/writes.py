"""What a write to each register does: one handler for every ``behaviour`` that the register tables name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from machine.lance import bits, state
from machine.lance.core import LanceCore
from machine.lance.plans import BCR_PLANS, CSR_PLANS, WritePlan

__all__ = ["BCR_WRITERS", "CSR_WRITERS", "EFFECT_INIT", "EFFECT_TRANSMIT", "Writer"]

EFFECT_INIT: Final = 1  # the init block has to be read, then finish_init called
EFFECT_TRANSMIT: Final = 2  # the transmit ring has to be looked at

Writer = Callable[[LanceCore, WritePlan, int], int]  # (chip, plan, 16-bit value) -> effects

_CSR0: Final = state.CSR
_CSR4: Final = state.CSR + 4
_CSR5: Final = state.CSR + 5
# Names of this module's own: CSR0 is written several times a packet, and a global is found quicker than a.b.
_STOP: Final = bits.CSR0_STOP
_INEA: Final = bits.CSR0_INEA
_CAUSES: Final = bits.CSR0_CAUSES
_TDMD: Final = bits.CSR0_TDMD
_TXON: Final = bits.CSR0_TXON
_SPND: Final = bits.CSR5_SPND
_COMMANDS: Final = bits.CSR0_TDMD | bits.CSR0_STRT | bits.CSR0_INIT
_LENGTH_FROM_COUNTER: Final = 4  # CSR76 and 78 from CSR72 and 74
_BOTH: Final = bits.BCR20_CSRPCNET | bits.BCR20_SSIZE32
_STYLES: Final = {1: bits.BCR20_SSIZE32 | 1, 2: _BOTH | 2, 3: _BOTH | 3}  # SWSTYLE -> what BCR20 then says


def _ignored(_chip: LanceCore, _plan: WritePlan, _value: int) -> int:
    return 0


def _plain(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """Stores what the state of the chip lets a write change; W1C bits clear."""
    words = chip.words
    if plan.gate_mask and not words[plan.gate_word] & plan.gate_mask:
        return 0
    takes = plan.running
    if takes != plan.stopped:
        if words[_CSR0] & _STOP:
            takes = plan.stopped
        elif words[_CSR5] & _SPND:
            takes = plan.suspended
    old = words[plan.word]
    new = (old & ~takes | value & takes) & ~(value & plan.w1c)
    words[plan.word] = new
    if (old ^ new) & plan.cached:
        chip.changed()
    return 0


def _status(chip: LanceCore, _plan: WritePlan, value: int) -> int:
    """CSR0: acknowledges causes, sets INEA, carries out commands. STOP wins over everything else."""
    if value & _STOP:
        chip.stop()
        return 0
    csr0 = chip.words[_CSR0] & ~(value & _CAUSES | _INEA) | value & _INEA
    effects = 0
    if value & _COMMANDS:
        if value & _COMMANDS == _TDMD and csr0 & _TXON:  # the one write of every packet sent
            csr0 |= _TDMD
            effects = 0 if chip.words[_CSR5] & _SPND else EFFECT_TRANSMIT
        else:
            csr0, effects = _command(chip, csr0, value)
    chip.settle(csr0)
    return effects


def _command(chip: LanceCore, csr0: int, value: int) -> tuple[int, int]:
    """INIT, STRT and TDMD in this order: (new CSR0, effects). INIT and STRT count once until the next STOP."""
    effects = 0
    if value & ~csr0 & bits.CSR0_INIT:
        csr0 = csr0 & ~bits.CSR0_STOP | bits.CSR0_INIT
        effects = EFFECT_INIT
    wanted = value & _TDMD
    if value & ~csr0 & bits.CSR0_STRT:
        csr0 = csr0 & ~_STOP | bits.CSR0_STRT
        if not effects:  # else the init block decides what is on, see finish_init
            csr0 |= chip.enabled()
        wanted |= ~chip.words[_CSR4] & bits.CSR4_DPOLL  # the chip polls: its first look at the ring is due
        chip.changed()
    if csr0 & _TXON or (effects and csr0 & bits.CSR0_STRT):
        csr0 |= value & _TDMD
        if wanted and not chip.words[_CSR5] & _SPND:  # a suspended chip sees to TDMD when SPND goes
            effects |= EFFECT_TRANSMIT
    return csr0, effects


def _interrupts(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """CSR3: masks may let a waiting cause through. Twice per interrupt with NAPI, so without _plain's questions."""
    words = chip.words
    old = words[plan.word]
    new = words[plan.word] = value & plan.running
    if (old ^ new) & plan.cached:
        chip.changed()
    chip.settle(words[_CSR0])
    return 0


def _features(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """CSR4: UINTCMD turns into UINT at once."""
    _plain(chip, plan, value)
    if value & bits.CSR4_UINTCMD:
        chip.words[_CSR4] |= bits.CSR4_UINT
    chip.update_irq()
    return 0


def _control(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """CSR5: SPND takes effect at once; its end lets a waiting TDMD, or the next poll, go ahead.

    So does magic packet mode, whose end waits for the next poll or demand: what it interrupts is not in a hurry.
    """
    words = chip.words
    was_suspended = words[_CSR5] & bits.CSR5_SPND
    _plain(chip, plan, value)
    chip.update_irq()
    resumed = was_suspended and not value & bits.CSR5_SPND and words[_CSR0] & bits.CSR0_TXON
    if resumed and (words[_CSR0] & bits.CSR0_TDMD or not words[_CSR4] & bits.CSR4_DPOLL):
        return EFFECT_TRANSMIT
    return 0


def _style(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """BCR20 and CSR58: SSIZE32 and CSRPCNET follow SWSTYLE; values that the chip doesn't know become style 0."""
    _plain(chip, plan, value)
    words = chip.words
    style = words[plan.word]
    words[plan.word] = style & bits.BCR20_APERREN | _STYLES.get(style & bits.BCR20_SWSTYLE, bits.BCR20_CSRPCNET)
    return 0


def _ring_length(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """CSR76 and CSR78: the ring's counter begins anew with its length, at the first descriptor.

    Initialisation by registers alone (CSR24 to 31 and these two, then STRT) says nothing else about where to begin.
    """
    words = chip.words
    if words[_CSR0] & _STOP or words[_CSR5] & _SPND:
        _plain(chip, plan, value)
        counter = plan.word - _LENGTH_FROM_COUNTER
        if words[counter] != words[plan.word]:
            words[counter] = words[plan.word]
            chip.changed()
    return 0


def _led(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """BCR4 to BCR7: LEDOUT follows what the LED is to show."""
    _plain(chip, plan, value)
    chip.show_link()
    return 0


def _latency(chip: LanceCore, plan: WritePlan, value: int) -> int:
    """BCR22: the PCI registers of the same meaning follow."""
    _plain(chip, plan, value)
    chip.pci.set_latency(chip.words[plan.word])
    return 0


_HANDLERS: Final[dict[str, Writer]] = {
    "control": _control,
    "features": _features,
    "ignored": _ignored,
    "interrupts": _interrupts,
    "latency": _latency,
    "led": _led,
    "plain": _plain,
    "ring-length": _ring_length,
    "status": _status,
    "style": _style,
}

CSR_WRITERS: Final = tuple(_HANDLERS[plan.behaviour] for plan in CSR_PLANS)
BCR_WRITERS: Final = tuple(_HANDLERS[plan.behaviour] for plan in BCR_PLANS)
