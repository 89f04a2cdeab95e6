"""The Lance as a vfio-user client sees it: a PCI function with ports, registers in memory, and configuration space.

A port access is a trap like the built-in guest's: it goes through the dispatcher to whatever ``LancePorts`` binds in
the present mode, and is counted and timed under the port's number, BAR 0 as the guest has set it plus the offset.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from machine.counters import VMM, indices
from machine.lance.regfile import RegisterFile
from machine.lance.state import IRQ_LEVEL, LINK_UP
from machine.launch import Station
from machine.portmap import PortMap
from machine.ports import LANCE_PORTS
from machine.ring import KIND_IN, KIND_OUT, PORT_SHIFT, WIDTHS, pack_key
from machine.trouble import Trouble
from vmm.dispatch import Dispatcher
from vmm.foreign.line import ClientLine
from vmm.foreign.windows import ClientWindows
from vmm.lanceports import LancePorts
from vmm.vfiouser.device import Region
from vmm.vfiouser.messages import RegionIndex
from vmm.worldswitch import WorldSwitch

__all__ = ["BAR0", "BAR1", "CONFIG_SPACE", "LanceFunction"]

BAR0: Final = int(RegionIndex.BAR0)
BAR1: Final = int(RegionIndex.BAR1)
CONFIG_SPACE: Final = int(RegionIndex.CONFIG)
_CONFIG_BYTES: Final = 256
_OWNER: Final = "lance"
_UNCLAIMED: Final = indices(VMM)["io_unclaimed"]
_NOT_SHARED: Final = (
    "the guest's memory is not shared, so the card cannot reach it: give QEMU memory-backend-memfd,share=on"
)
_WIDEST: Final = max(WIDTHS)  # bytes in one PCI data phase


class LanceFunction:
    """A ``vmm.vfiouser.device.Device``. ``traps`` counts what the client has asked of it; ``log`` takes one line."""

    def __init__(
        self,
        station: Station,
        registers: RegisterFile,
        lance: LancePorts,
        switch: WorldSwitch,
        line: ClientLine,
        windows: ClientWindows,
        dispatcher: Dispatcher,
        ports: PortMap,
        trouble: Trouble,
        log: Callable[[str], None],
    ) -> None:
        self._words = station.lance
        self._counters = station.counters
        self._mac = station.mac
        self._posts = station.settings.posted
        self._registers = registers
        self._lance = lance
        self._switch = switch
        self._line = line
        self._windows = windows
        self._dispatcher = dispatcher
        self._bound = dispatcher.bound
        self._ports = ports
        self._trouble = trouble
        self._log = log
        self._base: int | None = None
        self._ins: dict[int, int] = {}  # width -> key of an IN from the first port
        self._outs: dict[int, int] = {}
        self.traps = 0
        self.regions = {
            BAR0: Region(LANCE_PORTS),
            BAR1: Region(LANCE_PORTS),
            CONFIG_SPACE: Region(_CONFIG_BYTES),
        }
        self._place()

    # -- accesses -------------------------------------------------------------------------------------------

    def read(self, region: int, offset: int, count: int) -> bytes:
        """IN, a load from registers in memory, or a read of configuration space."""
        self.traps += 1
        if region == CONFIG_SPACE:
            return self._registers.config_read(offset, count).to_bytes(count, "little")
        first = self._ins.get(count)
        if first is not None and not offset % count:
            return self._access(first + (offset << PORT_SHIFT), 0).to_bytes(count, "little")
        return b"".join(
            self._access(self._ins[width] + (at << PORT_SHIFT), 0).to_bytes(width, "little")
            for at, width in _phases(offset, count)
        )

    def write(self, region: int, offset: int, data: memoryview, finish: Callable[[], None]) -> None:
        """OUT, a store to registers in memory, or a write of configuration space.

        With ``posted``, an OUT is answered first: the guest's next instructions, and the client's thread that has to be
        woken for them, do not wait for what the device does.
        """
        self.traps += 1
        if region == CONFIG_SPACE:
            self._config_write(offset, len(data), int.from_bytes(data, "little"))
            return
        if self._posts:
            finish()
        count = len(data)
        value = int.from_bytes(data, "little")
        first = self._outs.get(count)
        if first is not None and not offset % count:
            self._access(first + (offset << PORT_SHIFT), value)
            return
        for at, width in _phases(offset, count):
            part = value >> 8 * (at - offset) & (1 << 8 * width) - 1
            self._access(self._outs[width] + (at << PORT_SHIFT), part)

    def _access(self, key: int, value: int) -> int:
        """Carries one access out, counts and times it (as ``vmm.monitor`` does)."""
        bound = self._bound.get(key) or self._dispatcher.find(key)
        assert bound is not None  # only a guest of ours can send a key that nobody could have made
        access, statistics, is_out, _ = bound
        counters = self._counters
        line = self._line
        line.accessed = True
        started = monotonic_ns()
        result = access(value)
        line.heard_ns = ended = monotonic_ns()
        line.accessed = False
        counters[statistics + 1 + is_out] += 1
        counters[statistics + 3] += ended - started
        return result

    # -- where the ports are --------------------------------------------------------------------------------

    @property
    def _port(self) -> int:
        """Number of the first port; as long as the guest has given it none, they count from 0."""
        return self._base or 0

    def _config_write(self, offset: int, width: int, value: int) -> None:
        self._registers.config_write(offset, width, value)
        if self._registers.io_base != self._base:
            self._place()

    def _place(self) -> None:
        """The port map follows BAR 0. RAP cannot be plain memory here, wherever it is: the guest's CPU traps."""
        self._ports.release(_OWNER)
        self._base = self._registers.io_base
        self._ins = {width: pack_key(KIND_IN, width, self._port) for width in WIDTHS}
        self._outs = {width: pack_key(KIND_OUT, width, self._port) for width in WIDTHS}
        self._ports.claim(self._port, LANCE_PORTS, _OWNER, self._lance)
        self._lance.move(None)
        self._dispatcher.rebind()

    # -- memory, reset, interrupt ---------------------------------------------------------------------------

    def map_dma(self, address: int, size: int, fd: int | None, offset: int, *, writable: bool) -> None:
        """A window of the client's memory (``vmm.foreign.windows``).

        Of memory that the client does not share, no descriptor comes. That is right for ROMs and for other devices'
        registers; where RAM begins, at address 0, it means that no ring and no buffer of the guest can be reached.
        """
        self._windows.map(address, size, fd, offset, writable=writable)
        if fd is None and address == 0 and self._trouble.note(_NOT_SHARED):
            self._log(_NOT_SHARED)

    def unmap_dma(self, address: int, size: int) -> int:
        """Windows wholly within the range are gone; how many bytes."""
        return self._windows.unmap(address, size)

    def unmap_all(self) -> int:
        """All windows are gone; how many bytes. What was wrong with them is no longer so."""
        self._trouble.clear()
        return self._windows.clear()

    def reset(self) -> None:
        """RST#: everything as at power-on, but for the cable, which nobody has touched."""
        plugged = bool(self._words[LINK_UP])
        self._registers.power_on(self._mac)
        self._registers.set_link(plugged)
        self._switch.sample_line()
        self._place()

    def interrupt_unmasked(self) -> None:
        """The line's end (``IntxLine``) knows its level; one that changed unseen is passed on."""
        if self._words[IRQ_LEVEL] != self._switch.line:
            self._switch.sample_line()


def _phases(offset: int, count: int) -> list[tuple[int, int]]:
    """(offset, width) of the aligned accesses that a bridge makes of one that is not, lowest first."""
    found = []
    end = offset + count
    while offset < end:
        width = _WIDEST
        while offset % width or offset + width > end:
            width >>= 1
        found.append((offset, width))
        offset += width
    return found
