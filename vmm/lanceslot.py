"""The Lance's place on the PCI bus: its configuration space there, its ports wherever the guest maps BAR 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from machine.errors import PortOverlapError, PortRangeError
from machine.lance.regfile import RegisterFile
from machine.portmap import PortMap
from machine.ports import LANCE_PORTS
from vmm.lanceports import LancePorts

__all__ = ["LANCE_SLOT", "LanceSlot"]

LANCE_SLOT: Final = 4
_OWNER: Final = "lance"


class LanceSlot:
    """Keeps the port map in step with BAR 0. ``changed`` is called after the map has changed.

    A guest may put BAR 0 on top of another device. As the fixed devices decode first, the Lance then decodes
    nothing until it is moved away.
    """

    def __init__(
        self, registers: RegisterFile, ports: PortMap, handler: LancePorts, changed: Callable[[], None]
    ) -> None:
        self._registers = registers
        self._ports = ports
        self._handler = handler
        self._changed = changed
        self._base: int | None = None

    def config_read(self, offset: int, width: int) -> int:
        """``width`` bytes of the Lance's configuration space."""
        return self._registers.config_read(offset, width)

    def config_write(self, offset: int, width: int, value: int) -> None:
        """Writes configuration space; the ports move with BAR 0 and the command register."""
        self._registers.config_write(offset, width, value)
        if self._registers.io_base != self._base:
            self._remap()

    def _remap(self) -> None:
        self._ports.release(_OWNER)
        self._base = decoded = self._registers.io_base
        if decoded is not None:
            try:
                self._ports.claim(decoded, LANCE_PORTS, _OWNER, self._handler)
            except (PortOverlapError, PortRangeError):
                decoded = None  # the guest's mistake, and harmless: nothing answers there
        self._handler.move(decoded)
        self._changed()
