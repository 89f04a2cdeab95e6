"""One entry for every trap, whatever brought it: a key (kind, width, port) in, a value out.

The port map says which device decodes a port. The first access of each kind, width and port looks it up and
binds it to a function of the value; every later one is a single dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, runtime_checkable

from machine.layout import PORT_SLOTS, PORT_TABLE, PORT_WORDS
from machine.portmap import PortMap, all_ones
from machine.ring import KIND_IN, KIND_OUT, is_valid_key, unpack_key

__all__ = ["Access", "BindsPorts", "Bound", "Dispatcher"]

Access = Callable[[int], int]  # value written (0 for IN) -> value read (0 for OUT)

_OTHER_PORTS: Final = PORT_SLOTS - 1  # the last entry of the port table is for ports that found it full
_MOST_BOUND: Final = 1024  # a driver uses some dozens of keys; a guest could send 393216, at half a kilobyte each
_OTHER_NAME: Final = 0x10001  # one more than the last port + 1


class Bound(NamedTuple):
    """A trap key bound to its work: the function and the port's statistics (word index).

    ``is_out``: the key is an OUT. ``leaves``: carrying it out may take a world switch.
    """

    access: Access
    statistics: int
    is_out: bool
    leaves: bool


@runtime_checkable
class BindsPorts(Protocol):
    """A device that specialises its accesses itself: what goes to vmapp is decided there, access by access.

    ``leaves_vmm``: some of its accesses may.
    """

    leaves_vmm: bool

    def bind(self, key: int, kind: int, offset: int, width: int) -> Access:
        """The function that carries out ``key`` from now on; ``offset`` counts from the claim's first port."""


class Dispatcher:
    """The vmm's dispatch table over a :class:`PortMap`.

    ``unclaimed``: called for each access that no device claims.
    """

    __slots__ = ("_counters", "_ports", "_unclaimed", "bound")

    def __init__(self, ports: PortMap, counters: memoryview, unclaimed: Callable[[], None]) -> None:
        self._ports = ports
        self._counters = counters
        self._unclaimed = unclaimed
        self.bound: dict[int, Bound] = {}  # keys seen lately: the fast path looks here first

    def find(self, key: int) -> Bound | None:
        """The work for ``key``; None if no guest may send such a key."""
        return self.bound.get(key) or self._bind(key)

    def trap(self, key: int, value: int) -> int:
        """Carries out one access; for transports that have nothing else to do with it."""
        bound = self.find(key)
        return 0 if bound is None else bound.access(value)

    def rebind(self) -> None:
        """Forgets every binding: the port map, or where accesses are handled, has changed."""
        self.bound.clear()

    def _bind(self, key: int) -> Bound | None:
        kind, width, port = unpack_key(key)
        if not is_valid_key(key) or kind not in (KIND_IN, KIND_OUT):
            return None
        if len(self.bound) >= _MOST_BOUND:
            self.bound.clear()
        access, leaves = self._access(key, kind, width, port)
        bound = Bound(access, self._statistics(port), kind == KIND_OUT, leaves)
        self.bound[key] = bound
        return bound

    def _access(self, key: int, kind: int, width: int, port: int) -> tuple[Access, bool]:
        """The function that carries out a key, and whether it may leave the vmm."""
        claim = self._ports.lookup(port, width)
        if claim is None:
            return self._make_unclaimed(kind, width), False
        offset, handler = port - claim.first, claim.handler
        if isinstance(handler, BindsPorts):
            return handler.bind(key, kind, offset, width), handler.leaves_vmm
        if kind == KIND_IN:
            return (lambda _value: handler.read(offset, width)), False
        mask = all_ones(width)
        return (lambda value: handler.write(offset, width, value & mask)), False

    def _make_unclaimed(self, kind: int, width: int) -> Access:
        answer = all_ones(width) if kind == KIND_IN else 0

        def access(_value: int) -> int:
            self._unclaimed()
            return answer

        return access

    def _statistics(self, port: int) -> int:
        """Word index of the port's entry; a guest that touches every port shares the last one."""
        for slot in range(_OTHER_PORTS):
            entry = PORT_TABLE + slot * PORT_WORDS
            if self._counters[entry] in (0, port + 1):
                self._counters[entry] = port + 1
                return entry
        entry = PORT_TABLE + _OTHER_PORTS * PORT_WORDS
        self._counters[entry] = _OTHER_NAME
        return entry
