"""Guest physical memory as the devices see it: windows of shared bytes, every access checked.

The guest hands out physical addresses (descriptor rings, buffers, init block). None of them is trusted: a
device asks for a *window* and gets exactly those bytes, or ``None`` when any of them lies outside RAM.
"""

from __future__ import annotations

from typing import Final

__all__ = ["GuestMemory"]

_ADDRESS_LIMIT: Final = 1 << 32  # the Lance is a 32-bit bus master


class GuestMemory:
    """RAM that starts at guest physical address 0, or several windows of it (a foreign guest's DMA map).

    ``generation`` grows whenever the map changes; whoever caches a window compares it before use.
    """

    __slots__ = ("_ram", "_size", "_windows", "generation")

    def __init__(self, ram: memoryview) -> None:
        """``ram``: writable bytes (format "B") that back guest addresses [0, len(ram))."""
        self._ram = ram
        self._size = len(ram)
        self._windows: list[tuple[int, int, memoryview]] = []
        self.generation = 0

    def window(self, address: int, length: int) -> memoryview | None:
        """The bytes [address, address + length), writable and not copied; None if any is outside RAM.

        Any integers are allowed: negative, zero-length and beyond-32-bit requests all answer None.
        """
        end = address + length
        if 0 <= address < end <= self._size:
            return self._ram[address:end]
        return self._elsewhere(address, length)

    def _elsewhere(self, address: int, length: int) -> memoryview | None:
        end = address + length
        if length <= 0 or address < 0 or end > _ADDRESS_LIMIT:
            return None
        for base, size, backing in self._windows:  # newest first: a later mapping hides an earlier one
            if base <= address and end <= base + size:
                return backing[address - base : end - base]
        return None

    def map(self, base: int, backing: memoryview) -> None:
        """Adds a window (bytes) at guest address ``base``; it hides older ones that it overlaps."""
        self._windows.insert(0, (base, len(backing), backing))
        self.generation += 1

    def unmap(self, base: int, size: int) -> bool:
        """Removes every window that lies wholly within [base, base + size); tells whether there was one."""
        kept = [w for w in self._windows if not (base <= w[0] and w[0] + w[1] <= base + size)]
        removed = len(kept) != len(self._windows)
        self._windows = kept
        self.generation += removed
        return removed
