"""The I/O port map: which device decodes which of the 65536 ports.

As on a bus, an access goes to the device that decodes its first port, whole, if that device decodes all of
its ports. An access that runs past the end of a claim is nobody's, even if the next port has an owner: the
devices here do not split accesses among each other. What nobody decodes reads all ones and ignores writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from machine.errors import PortOverlapError, PortRangeError

__all__ = ["PORTS", "Claim", "PortHandler", "PortMap", "all_ones"]

PORTS: Final = 0x10000

_ALL_ONES: Final = (0, 0xFF, 0xFFFF, 0xFF_FFFF, 0xFFFF_FFFF)


def all_ones(width: int) -> int:
    """What a bus that nobody drives reads as: ones in ``width`` bytes; widths beyond 1-4 count as 4."""
    return _ALL_ONES[width] if 0 < width < 4 else 0xFFFF_FFFF


class PortHandler(Protocol):
    """A device's side of its ports. ``offset`` counts from the claim's first port; ``width`` is 1, 2 or 4 bytes.

    The port map guarantees that offset + width lies within the claim, and nothing else: ``value`` may have
    more bits than ``width`` allows, and the access need not be aligned.
    """

    def read(self, offset: int, width: int) -> int:
        """IN: the value, of ``width`` bytes."""

    def write(self, offset: int, width: int, value: int) -> int:
        """OUT. Answers effect bits: what is left to do elsewhere; 0 means that the access is finished."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Ports [first, first + count) belong to ``owner``, whose ``handler`` answers them."""

    first: int
    count: int
    owner: str
    handler: PortHandler

    def __str__(self) -> str:
        return f"{self.owner} ({_span(self.first, self.count)})"


def _span(first: int, count: int) -> str:
    return f"ports {first:#06x}-{first + count - 1:#06x}"


class PortMap:
    """Claims on ports, none overlapping, found by port in constant time."""

    __slots__ = ("_by_port",)

    def __init__(self) -> None:
        self._by_port: dict[int, Claim] = {}

    def claim(self, first: int, count: int, owner: str, handler: PortHandler) -> Claim:
        """Gives ports [first, first + count) to ``owner``, who may hold several such ranges.

        Raises PortRangeError if they are not 1 to 65536 existing ports, PortOverlapError if any is taken;
        the map is then as it was.
        """
        if not 0 <= first < first + count <= PORTS:
            raise PortRangeError(f"{owner} claims {count} ports from {first:#x}: ports are 0x0000-0xffff")
        taken = self._by_port
        for port in range(first, first + count):
            if port in taken:
                raise PortOverlapError(f"{owner} claims {_span(first, count)}, but {taken[port]} has some of them")
        made = Claim(first, count, owner, handler)
        taken.update(dict.fromkeys(range(first, first + count), made))
        return made

    def release(self, owner: str) -> bool:
        """Frees every port of ``owner``; tells whether there was one."""
        kept = {port: claim for port, claim in self._by_port.items() if claim.owner != owner}
        removed = len(kept) != len(self._by_port)
        self._by_port = kept
        return removed

    def lookup(self, port: int, width: int) -> Claim | None:
        """The claim that holds all ``width`` ports from ``port`` on; None if there is none. Any integers."""
        claim = self._by_port.get(port)
        if claim is None or width < 1 or port + width > claim.first + claim.count:
            return None
        return claim

    def read(self, port: int, width: int) -> int:
        """IN from whoever decodes it; all ones if nobody does."""
        claim = self.lookup(port, width)
        return all_ones(width) if claim is None else claim.handler.read(port - claim.first, width)

    def write(self, port: int, width: int, value: int) -> int:
        """OUT to whoever decodes it: the handler's effect bits; 0 if nobody does."""
        claim = self.lookup(port, width)
        return 0 if claim is None else claim.handler.write(port - claim.first, width, value)

    def claims(self) -> tuple[Claim, ...]:
        """Every claim, by first port."""
        starts = {claim.first: claim for claim in self._by_port.values()}
        return tuple(starts[first] for first in sorted(starts))
