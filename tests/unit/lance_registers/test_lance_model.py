"""Random port accesses: the register file against a model that is written for clarity, not for speed."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from machine.lance import state
from machine.lance.regfile import EFFECT_INIT, EFFECT_TRANSMIT, RegisterFile

MAC = bytes.fromhex("525400123456")
STYLES = {1: 0x0101, 2: 0x0302, 3: 0x0303}
INTERESTING = st.sampled_from([0, 3, 4, 5, 15, 20, 58, 18, 88])
VALUES = st.one_of(st.integers(0, 0xFFFF), st.sampled_from([1 << i for i in range(16)]), st.integers())


class Model:
    """CSR0, 3, 4, 5, 15, RAP and BCR20 by the words of the data sheet."""

    def __init__(self) -> None:
        self.dwio = False
        self.mode = 0
        self.style = 0x0200
        self.soft_reset()

    def soft_reset(self) -> None:
        self.rap = self.csr3 = self.csr5 = 0
        self.csr4 = 0x0115
        self.mode &= 0x21C4
        self.causes, self.flags = 0, {"STOP"}

    def stop(self) -> None:
        self.causes, self.flags = 0, {"STOP"}
        self.csr4 &= ~0x026A
        self.csr5 &= ~0x0011

    def csr0(self) -> int:
        order = ("INIT", "STRT", "STOP", "TDMD", "TXON", "RXON", "INEA")
        value = self.causes | sum(1 << i for i, name in enumerate(order) if name in self.flags)
        return value | 0x8000 * bool(self.causes & 0x7800) | 0x80 * self.intr()

    def intr(self) -> bool:
        from_csr0 = self.causes & 0x5F00 & ~self.csr3
        from_csr4 = self.csr4 & 0x40 or any(self.csr4 & 2 * m and not self.csr4 & m for m in (0x100, 0x10, 4, 1))
        return bool(from_csr0 or from_csr4 or any(self.enabled5(e) for e in (0x400, 0x100, 0x40, 8)))

    def enabled5(self, enable: int) -> bool:
        return bool(self.csr5 & enable and self.csr5 & 2 * enable)

    def level(self) -> bool:
        return (self.intr() and "INEA" in self.flags) or self.enabled5(0x400) or self.enabled5(0x100)

    def loose(self) -> bool:
        return "STOP" in self.flags or bool(self.csr5 & 1)

    def write(self, index: int, value: int) -> int:
        if index == 0:
            return self.write_csr0(value)
        if index == 3:
            self.csr3 = value & 0x5F7C
        elif index == 4:
            self.csr4 = value & 0xFD15 | self.csr4 & 0x026A & ~value | 0x40 * bool(value & 0x80)
        elif index == 5:
            return self.write_csr5(value)
        elif index == 15 and self.loose():
            self.mode = value
        elif index == 58:
            self.write_style(value)
        return 0

    def write_style(self, value: int) -> None:
        if self.loose():
            self.style = value & 0x0400 | STYLES.get(value & 0xFF, 0x0200)

    def write_csr5(self, value: int) -> int:
        resumed = self.csr5 & 1 and not value & 1
        self.csr5 = value & 0xC56F & ~0x0A90 | self.csr5 & 0x0A90 & ~value
        wants = "TDMD" in self.flags or not self.csr4 & 0x1000
        return EFFECT_TRANSMIT if resumed and "TXON" in self.flags and wants else 0

    def write_csr0(self, value: int) -> int:
        if value & 4:
            self.stop()
            return 0
        self.causes &= ~value
        self.flags.discard("INEA")
        if value & 0x40:
            self.flags.add("INEA")
        initialising = bool(value & 1) and "INIT" not in self.flags
        effects = EFFECT_INIT if initialising else 0
        if initialising:
            self.flags = self.flags - {"STOP"} | {"INIT"}
        starting = bool(value & 2) and "STRT" not in self.flags
        if starting:
            self.start(initialising)
        hopeful = "TXON" in self.flags or (initialising and "STRT" in self.flags)
        if value & 8 and hopeful:
            self.flags.add("TDMD")
        wants = value & 8 or (starting and not self.csr4 & 0x1000)
        if wants and hopeful and not self.csr5 & 1:
            effects |= EFFECT_TRANSMIT
        return effects

    def start(self, initialising: bool) -> None:
        self.flags = self.flags - {"STOP"} | {"STRT"}
        if not initialising:
            self.turn_on()

    def turn_on(self) -> None:
        self.flags |= ({"RXON"} if not self.mode & 1 else set()) | ({"TXON"} if not self.mode & 2 else set())

    def initialised(self, mode: int) -> None:
        self.mode = mode
        self.causes |= 0x100
        self.flags = self.flags - {"STOP"} | {"INIT"}
        if "STRT" in self.flags:
            self.flags -= {"RXON", "TXON"}
            self.turn_on()
        if "TXON" not in self.flags:
            self.flags.discard("TDMD")


class Ports(RuleBasedStateMachine):
    """Drives both with what a guest, and the engine, can do."""

    def __init__(self) -> None:
        super().__init__()
        self.chip = RegisterFile(memoryview(bytearray(4 * state.STATE_WORDS)).cast("I"))
        self.chip.power_on(MAC)
        self.model = Model()

    def out(self, wio_offset: int, dwio_offset: int, value: int) -> int:
        if self.model.dwio:
            return self.chip.write(dwio_offset, 4, value)
        return self.chip.write(wio_offset, 2, value)

    @rule(index=st.one_of(INTERESTING, st.integers()))
    def select(self, index: int) -> None:
        assert self.out(0x12, 0x14, index) == 0
        self.model.rap = index & 0x7F

    @rule(value=VALUES)
    def write_rdp(self, value: int) -> None:
        effects = self.out(0x10, 0x10, value)
        assert effects == self.model.write(self.model.rap, value & 0xFFFF)

    @rule(value=VALUES)
    def write_csr0(self, value: int) -> None:
        assert self.chip.write_csr(0, value) == self.model.write(0, value & 0xFFFF)

    @rule(index=st.sampled_from([3, 4, 5, 15]), value=VALUES)
    def write_csr(self, index: int, value: int) -> None:
        assert self.chip.write_csr(index, value) == self.model.write(index, value & 0xFFFF)

    @rule(value=VALUES)
    def write_bdp(self, value: int) -> None:
        assert self.out(0x16, 0x1C, value) == 0
        if self.model.rap == 20:
            self.model.write_style(value & 0xFFFF)

    @rule()
    def reset(self) -> None:
        assert (self.chip.read(0x18, 4) if self.model.dwio else self.chip.read(0x14, 2)) == 0
        self.model.soft_reset()

    @rule()
    def hard_reset(self) -> None:
        self.chip.hard_reset()
        self.model = Model()

    @rule(value=VALUES)
    def switch_to_dwio(self, value: int) -> None:
        if not self.model.dwio:
            assert self.chip.write(0x10, 4, value) == 0
            self.model.dwio = True

    @rule(causes=st.integers(0, 0xFFFF))
    def chip_raises(self, causes: int) -> None:
        self.chip.raise_csr0(causes)
        self.chip.raise_csr4(causes)
        self.chip.raise_csr5(causes)
        self.model.causes |= causes & 0x7F00
        self.model.csr4 |= causes & 0x026A
        self.model.csr5 |= causes & 0x0A90

    @rule(mode=st.integers(0, 0xFFFF), base=st.integers(0, 0xFFFF_FFFF), log2=st.integers(0, 9))
    def engine_initialises(self, mode: int, base: int, log2: int) -> None:
        self.chip.finish_init(mode, MAC, bytes(8), base, base, log2, log2)
        self.model.initialised(mode)

    @rule(offset=st.integers(-4, 40), width=st.sampled_from([1, 2, 4]))
    def read_anything(self, offset: int, width: int) -> None:
        value = self.chip.read(offset, width)
        assert 0 <= value < 1 << 8 * width
        if (offset, width) == ((0x18, 4) if self.model.dwio else (0x14, 2)):
            self.model.soft_reset()

    @rule(offset=st.integers(-4, 40), width=st.sampled_from([1, 3, 8]), value=VALUES)
    def write_at_a_wrong_width(self, offset: int, width: int, value: int) -> None:
        assert self.chip.write(offset, width, value) == 0

    @invariant()
    def they_agree(self) -> None:
        model, read = self.model, self.chip.read_csr
        assert [read(i) for i in (0, 3, 4, 5, 15)] == [model.csr0(), model.csr3, model.csr4, model.csr5, model.mode]
        assert (self.chip.rap, self.chip.read_bcr(20), read(58)) == (model.rap, model.style, model.style)
        assert self.chip.irq_level == model.level()
        assert bool(self.chip.read_bcr(18) & 0x80) == model.dwio


TestPorts = Ports.TestCase
