"""The Lance apart from its ports: resets, interrupt causes, start and stop, on the shared state words.

What the engine needs of the registers is here; what the guest's accesses do with them is in
``machine.lance.writes`` and ``machine.lance.regfile``.
"""

from __future__ import annotations

from typing import Final

from machine.errors import ConfigError, LayoutError
from machine.lance import bits, state
from machine.lance.bcrs import LED_BCRS
from machine.lance.pci import PciConfig
from machine.lance.plans import H_RESET, S_RESET, STOP, ResetStep

__all__ = ["LanceCore", "is_quiet"]

_CSR0: Final = state.CSR
_CSR3: Final = state.CSR + 3
_CSR4: Final = state.CSR + 4
_CSR5: Final = state.CSR + 5
_CSR15: Final = state.CSR + 15
_BCR20: Final = state.BCR + 20
_BCR22: Final = state.BCR + 22
_IRQ_LEVEL: Final = state.IRQ_LEVEL
# Names of this module's own: every port access comes through settle, and a global is found quicker than a.b.
_ERR: Final = bits.CSR0_ERR
_INTR: Final = bits.CSR0_INTR
_UINT: Final = bits.CSR4_UINT
_ERRORS: Final = bits.CSR0_ERRORS
_WITHOUT_SUMMARY: Final = 0xFFFF & ~(bits.CSR0_ERR | bits.CSR0_INTR)
_CSR0_MASKABLE: Final = bits.CSR3_MASKS
_CSR4_MASKS: Final = bits.CSR4_PAIR_MASKS
_CSR5_ALONE: Final = bits.CSR5_ENABLES_ALONE
_CSR5_ENABLES: Final = bits.CSR5_ENABLES_ALONE | bits.CSR5_ENABLES_WITH_INEA
_INEA_SHIFT: Final = bits.CSR0_INEA.bit_length() - 1
_MAC_BYTES: Final = 6
_LARGEST_RING_LOG2: Final = 9


def _aprom_image(mac: bytes) -> bytes:
    """16 bytes: address, AMD's hardware ID 0x11 in byte 9, sum in 12-13, "WW" in 14-15 (data sheet, "APROM")."""
    image = bytearray(16)
    image[:6] = mac
    image[9] = 0x11
    image[14:] = b"WW"
    image[12:14] = sum(image).to_bytes(2, "little")
    return bytes(image)


def is_quiet(csr5: int) -> bool:
    """Neither sends nor receives, though it is started: suspended, or waiting for a magic packet (CSR5)."""
    return bool(csr5 & bits.CSR5_SPND) or csr5 & bits.CSR5_MAGIC == bits.CSR5_MAGIC


class LanceCore:
    """State words, and what changes them from inside the chip.

    Any number of instances may look at the same words, one world at a time; none keeps state of its own.
    """

    __slots__ = ("pci", "words")

    def __init__(self, words: memoryview) -> None:
        """``words``: STATE_WORDS words of format "I". Raises LayoutError for anything else."""
        if words.format != "I" or len(words) < state.STATE_WORDS:
            raise LayoutError(f"the Lance's state needs {state.STATE_WORDS} words of 32 bits, not {len(words)}")
        self.words = words
        self.pci = PciConfig(words)

    def power_on(self, mac: bytes) -> None:
        """Everything as after RST#, with station address ``mac`` (6 bytes) in the APROM and the cable in."""
        if len(mac) != _MAC_BYTES:
            raise ConfigError(f"a station address has {_MAC_BYTES} bytes, not {len(mac)}; write it as 6 hex pairs")
        image = _aprom_image(mac)
        for i in range(4):
            self.words[state.APROM + i] = int.from_bytes(image[4 * i : 4 * i + 4], "little")
        self.pci.power_on()
        self.words[state.LINK_UP] = 1
        self.hard_reset()

    def hard_reset(self) -> None:
        """H_RESET: CSRs and BCRs to their reset values; APROM, PCI configuration and the cable stay."""
        self._apply(H_RESET)
        self._reload()
        self.pci.set_latency(self.words[_BCR22])
        self.show_link()

    def soft_reset(self) -> None:
        """S_RESET, a read of the RESET port: BCRs stay, DWIO and SWSTYLE among them, and so do ring pointers."""
        self._apply(S_RESET)
        self._reload()

    def stop(self) -> None:
        """CSR0.STOP: CSR0 becomes 0x0004; rings, masks and modes stay."""
        self._apply(STOP)

    def _apply(self, steps: tuple[ResetStep, ...]) -> None:
        words = self.words
        for word, keep, put in steps:
            words[word] = words[word] & keep | put
        words[state.TX_IN_FRAME] = 0
        self.changed()
        self.update_irq()

    def _reload(self) -> None:
        """What both resets do beyond the table: RAP is 0, PADR comes from the APROM."""
        words = self.words
        words[state.RAP] = 0
        for i in range(3):
            words[state.CSR + 12 + i] = words[state.APROM + i // 2] >> 16 * (i & 1) & 0xFFFF

    def changed(self) -> None:
        """Tells whoever caches what registers say that it has to look again."""
        words = self.words
        words[state.CONFIG_GENERATION] = words[state.CONFIG_GENERATION] + 1 & 0xFFFF_FFFF

    def enabled(self) -> int:
        """What STRT turns on in this mode: RXON unless DRX, TXON unless DTX."""
        mode = self.words[_CSR15]
        rxon = 0 if mode & bits.CSR15_DRX else bits.CSR0_RXON
        return rxon if mode & bits.CSR15_DTX else rxon | bits.CSR0_TXON

    def finish_init(
        self, mode: int, padr: bytes, ladrf: bytes, rx_base: int, tx_base: int, rlen: int, tlen: int
    ) -> None:
        """Loads what the init block says, then sets IDON.

        ``mode``: 16 bits for CSR15. ``padr``: 6 bytes, ``ladrf``: 8 bytes, both in memory order. ``rx_base``,
        ``tx_base``: 32-bit ring addresses. ``rlen``, ``tlen``: RLEN and TLEN, encoded; codes above 9 mean 512
        descriptors, as 9 does.
        """
        self._load(8, int.from_bytes(ladrf[:8], "little"), 4)
        self._load(12, int.from_bytes(padr[:6], "little"), 3)
        self._load(15, mode, 1)
        for csr, base in ((24, rx_base), (28, rx_base), (30, tx_base), (34, tx_base)):  # ring, current descriptor
            self._load(csr, base, 2)
        self._load(6, (tlen & 15) << 12 | (rlen & 15) << 8, 1)
        for ring, code in ((72, rlen), (74, tlen)):
            length = 1 << min(code & 15, _LARGEST_RING_LOG2)
            self._load(ring, -length, 1)
            self._load(ring + 4, -length, 1)
        self._initialised()

    def _load(self, csr: int, value: int, count: int) -> None:
        """Spreads ``value`` over ``count`` CSRs, low half first, whatever their access mode."""
        for i in range(count):
            self.words[state.CSR + csr + i] = value >> 16 * i & 0xFFFF

    def _initialised(self) -> None:
        words = self.words
        csr0 = words[_CSR0] & ~bits.CSR0_STOP | bits.CSR0_INIT | bits.CSR0_IDON
        if csr0 & bits.CSR0_STRT:  # STRT was written together with INIT: its turn comes now, with the new mode
            csr0 = csr0 & ~(bits.CSR0_RXON | bits.CSR0_TXON) | self.enabled()
        if not csr0 & bits.CSR0_TXON:
            csr0 &= ~bits.CSR0_TDMD
        words[state.TX_IN_FRAME] = 0
        self.changed()
        self.settle(csr0)

    def raise_csr0(self, causes: int) -> None:
        """Sets BABL, CERR, MISS, MERR, RINT, TINT or IDON, and recomputes the interrupt line."""
        self.settle(self.words[_CSR0] | causes & bits.CSR0_CAUSES)

    def raise_csr4(self, causes: int) -> None:
        """Sets MFCO, UINT, RCVCCO, TXSTRT or JAB, and recomputes the interrupt line."""
        self.words[_CSR4] |= causes & bits.CSR4_CAUSES
        self.update_irq()

    def raise_csr5(self, causes: int) -> None:
        """Sets SINT, SLPINT, EXDINT or MPINT, and recomputes the interrupt line."""
        self.words[_CSR5] |= causes & bits.CSR5_CAUSES
        self.update_irq()

    def update_irq(self) -> None:
        """Recomputes CSR0.ERR, CSR0.INTR and the level of INTA# from causes, masks and INEA."""
        self.settle(self.words[_CSR0])

    def settle(self, csr0: int) -> None:
        """Makes ``csr0`` the new CSR0, with ERR and INTR recomputed, and sets the level of INTA#.

        SINT and SLPINT reach INTA# without INEA: STOP has cleared it by the time they are set.
        """
        words = self.words
        csr4, csr5 = words[_CSR4], words[_CSR5]
        csr0 &= _WITHOUT_SUMMARY
        if csr0 & _ERRORS:
            csr0 |= _ERR
        level = 0
        if csr0 & ~words[_CSR3] & _CSR0_MASKABLE or csr4 & _UINT or csr4 >> 1 & ~csr4 & _CSR4_MASKS:
            csr0 |= _INTR
            level = csr0 >> _INEA_SHIFT & 1
        enabled = csr5 >> 1 & csr5
        if enabled & _CSR5_ENABLES:
            csr0 |= _INTR
            level = csr0 >> _INEA_SHIFT & 1 or int(enabled & _CSR5_ALONE != 0)
        words[_CSR0] = csr0
        words[_IRQ_LEVEL] = level

    @property
    def irq_level(self) -> int:
        """1 while the chip drives INTA#, else 0."""
        return self.words[state.IRQ_LEVEL]

    @property
    def swstyle(self) -> int:
        """0 to 3: layout of init block and descriptors."""
        return self.words[_BCR20] & bits.BCR20_SWSTYLE

    def set_link(self, up: bool) -> None:
        """Plugs the cable in or out; the guest sees it in LEDOUT of the LED registers."""
        self.words[state.LINK_UP] = 1 if up else 0
        self.show_link()
        self.changed()

    def show_link(self) -> None:
        """LEDOUT of BCR4 to BCR7: is a signal on that the LED is to show? Of all signals only the link is modelled."""
        words = self.words
        link = bits.LED_LNKSTE if words[state.LINK_UP] else 0
        for index in LED_BCRS:
            value = words[state.BCR + index] & ~bits.LED_LEDOUT
            words[state.BCR + index] = value | bits.LED_LEDOUT if value & link else value
