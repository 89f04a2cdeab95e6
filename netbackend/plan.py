"""What a stack's network will look like: names, addresses, MACs. Pure data, no privilege, nothing is made here.

::

    guest: eth0 (TAP) ~~ guest process .. vmapp ~~ tap0 (TAP) -+
    native: eth0 ------------------------------ native0 -------+-- br0 -- wire0 ===== eth0 :peer
                                                               |   host   (shaped)
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from machine.errors import ConfigError
from netbackend.namespaces import check_stack_name, namespace_name

__all__ = [
    "BRIDGE",
    "DEFAULT_MTU",
    "HOST_TAP",
    "LARGEST_MTU",
    "MAC_PREFIX",
    "NATIVE_PORT",
    "PREFIX_LENGTH",
    "PREFIX_LENGTH_6",
    "SMALLEST_MTU_6",
    "STATION_INTERFACE",
    "TAP_QUEUE_FRAMES",
    "WIRE",
    "NetworkPlan",
    "Station",
]

MAC_PREFIX: Final = "02:57:53"  # locally administered, unicast
PREFIX_LENGTH: Final = 24
PREFIX_LENGTH_6: Final = 64
DEFAULT_MTU: Final = 1500
LARGEST_MTU: Final = 1500  # what a Lance can carry, VLAN tag or not
TAP_QUEUE_FRAMES: Final = 4096  # frames that wait for a guest or vmapp; the kernel drops beyond (drivers/net/tun.c)

BRIDGE: Final = "br0"
HOST_TAP: Final = "tap0"
WIRE: Final = "wire0"
NATIVE_PORT: Final = "native0"
STATION_INTERFACE: Final = "eth0"

_SUBNET: Final = "198.18.0"  # RFC 2544: 198.18.0.0/15 is for benchmarks, never routed
_SUBNET_6: Final = "2001:2:"  # RFC 5180: 2001:2::/48 is the same for IPv6
_SMALLEST_MTU: Final = 68  # RFC 791
SMALLEST_MTU_6: Final = 1280  # RFC 8200; with less, Linux has no IPv6 on a link

# Last byte of each MAC.
_GUEST, _HOST, _PEER, _NATIVE, _HOST_TAP, _WIRE, _NATIVE_PORT = range(1, 8)


@dataclass(frozen=True, slots=True)
class Station:
    """A machine on the network: where its interface is and how it is reached (addresses without prefix length).

    ``address``: IPv4. ``address6``: IPv6; besides, every interface has its link-local address, made of its MAC.
    """

    namespace: str
    interface: str
    address: str
    mac: str
    address6: str


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The network of stack ``stack``; everything else follows from its name. ``mtu``: bytes of IP per frame."""

    stack: str
    mtu: int = DEFAULT_MTU

    def __post_init__(self) -> None:
        """ConfigError if the stack's name or the MTU won't do."""
        check_stack_name(self.stack)
        if not _SMALLEST_MTU <= self.mtu <= LARGEST_MTU:
            raise ConfigError(f"MTU {self.mtu}: use {_SMALLEST_MTU} to {LARGEST_MTU} bytes")

    @property
    def guest(self) -> Station:
        """The virtual machine. Its MAC is the virtual NIC's, and so the guest's own interface's."""
        return self._station("guest", STATION_INTERFACE, 2, _GUEST)

    @property
    def host(self) -> Station:
        """The host machine: its bridge."""
        return self._station("host", BRIDGE, 1, _HOST)

    @property
    def peer(self) -> Station:
        """The machine at the other end of the wire."""
        return self._station("peer", STATION_INTERFACE, 3, _PEER)

    @property
    def native(self) -> Station:
        """A machine that isn't virtual, on the same bridge and so behind the same wire, to compare with."""
        return self._station("native", STATION_INTERFACE, 4, _NATIVE)

    @property
    def stations(self) -> dict[str, Station]:
        """All of them by role, in the order in which they are made."""
        return {"host": self.host, "guest": self.guest, "peer": self.peer, "native": self.native}

    @property
    def host_tap_mac(self) -> str:
        """MAC of the host's TAP itself. The virtual NIC behind it has another, as a station on a hub has."""
        return self._mac(_HOST_TAP)

    @property
    def wire_mac(self) -> str:
        """MAC of the wire's end on the bridge."""
        return self._mac(_WIRE)

    @property
    def native_port_mac(self) -> str:
        """MAC of the bridge's port for ``native``."""
        return self._mac(_NATIVE_PORT)

    def _station(self, role: str, interface: str, number: int, mac: int) -> Station:
        namespace = namespace_name(self.stack, role)
        return Station(namespace, interface, f"{_SUBNET}.{number}", self._mac(mac), f"{_SUBNET_6}:{number}")

    def _mac(self, last: int) -> str:
        # Two bytes from the stack's name: captures of two stacks don't look alike.
        mark = zlib.crc32(self.stack.encode()) & 0xFFFF
        return f"{MAC_PREFIX}:{mark >> 8:02x}:{mark & 0xFF:02x}:{last:02x}"
