"""Guest physical memory as the guest's own kernel uses it: a bump allocator and typed views."""

from __future__ import annotations

from machine.errors import LayoutError

__all__ = ["GuestRam"]

_FIRST_FREE = 0x1000  # page 0 stays empty, so that address 0 is never a valid buffer


class GuestRam:
    """``bytes`` and ``words`` (32 bits) are views of all of it; physical address 0 is the first byte."""

    def __init__(self, ram: memoryview) -> None:
        self.bytes = ram
        self.words = ram.cast("I")
        self._next = _FIRST_FREE

    def allocate(self, size: int, alignment: int = 64) -> int:
        """Physical address of ``size`` fresh bytes; LayoutError when memory is used up."""
        address = -(-self._next // alignment) * alignment
        if address + size > len(self.bytes):
            raise LayoutError(f"the guest has no {size} bytes of memory left: give it more (ram_mib)")
        self._next = address + size
        return address
