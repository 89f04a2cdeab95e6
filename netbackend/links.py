"""Links of one network namespace by rtnetlink: what a topology is put together from.

``session`` gives the one connection of a namespace; everything here takes it. Kernel refusals become one-line errors.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from machine.errors import NetworkError, SetupError
from netbackend.refusal import refusal

__all__ = [
    "Link",
    "LinkStatistics",
    "Session",
    "add_address",
    "add_bridge",
    "add_veth",
    "configure",
    "delete",
    "existing",
    "find",
    "offloads_off",
    "reporting",
    "session",
    "statistics",
]

Session = Any  # pyroute2.IPRoute, which carries no types

# linux/sockios.h, linux/ethtool.h: the set commands that take one 32-bit value
_SIOCETHTOOL: Final = 0x8946
_OFFLOADS: Final = {
    "receive checksum": 0x15,  # ETHTOOL_SRXCSUM
    "transmit checksum": 0x17,  # ETHTOOL_STXCSUM
    "TSO": 0x1F,  # ETHTOOL_STSO
    "GSO": 0x24,  # ETHTOOL_SGSO
    "GRO": 0x2C,  # ETHTOOL_SGRO
}
_IFREQ_POINTER: Final = struct.Struct("16sP16x")


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel has it; ``kind``: bridge, veth, tun."""

    name: str
    index: int
    kind: str
    mac: str


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """Since the link was made; frames, bytes. ``queue_drops``: frames its queueing discipline had no room for.

    ``rx_dropped`` also counts frames that arrived whole but that no protocol of the station took.
    """

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int
    rx_errors: int
    tx_errors: int
    queue_drops: int

    @property
    def lost(self) -> int:
        """Frames that were lost at this link, for whatever reason."""
        return self.rx_dropped + self.tx_dropped + self.rx_errors + self.tx_errors + self.queue_drops


@contextmanager
def reporting(action: str) -> Iterator[None]:
    """Turns the kernel's refusal within the block into one line: "cannot ``action``: ..."."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise refusal(action, error.code if isinstance(error, NetlinkError) else error.errno) from None


@contextmanager
def session() -> Iterator[Session]:
    """The rtnetlink connection of the namespace that the calling thread is in."""
    with reporting("talk to the kernel's network configuration"):
        connection = IPRoute()
    try:
        yield connection
    finally:
        connection.close()


def add_bridge(connection: Session, name: str, mac: str) -> None:
    """A bridge that forwards from the first frame on and says nothing of its own accord (no STP, no IGMP).

    It gets a MAC of its own: otherwise it takes its lowest port's, and changes when ports come and go.
    """
    _make(
        connection,
        "the kernel has no bridge (modprobe bridge)",
        ifname=name,
        kind="bridge",
        address=mac,
        br_stp_state=0,
        br_forward_delay=0,
        br_mcast_snooping=0,
    )


def add_veth(connection: Session, name: str, mac: str, peer: str, peer_mac: str, peer_namespace: int, mtu: int) -> None:
    """A veth pair: ``name`` here, ``peer`` in the namespace of descriptor ``peer_namespace``, both still down."""
    other = {"ifname": peer, "address": peer_mac, "mtu": mtu, "net_ns_fd": peer_namespace}
    _make(
        connection,
        "the kernel has no veth (modprobe veth)",
        ifname=name,
        kind="veth",
        address=mac,
        mtu=mtu,
        peer=other,
    )


def _make(connection: Session, without: str, **attributes: object) -> None:
    name = attributes["ifname"]
    with reporting(f"make {name}"):
        try:
            connection.link("add", **attributes)
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                raise SetupError(f"cannot make {name}: {without}") from None
            raise


def find(connection: Session, name: str) -> Link | None:
    """The link called ``name``, None if there is none."""
    try:
        (message,) = connection.link("get", ifname=name)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else ""
    return Link(name, message["index"], kind or "", message.get_attr("IFLA_ADDRESS") or "")


def existing(connection: Session, name: str) -> Link:
    """The link called ``name``; NetworkError if there is none."""
    with reporting(f"look {name} up"):
        link = find(connection, name)
    if link is None:
        raise NetworkError(f"there is no link {name}; is the stack up?")
    return link


def configure(connection: Session, name: str, **attributes: object) -> Link:
    """Sets ``attributes`` of ``name`` (address, mtu, master, state as rtnetlink has them); returns the link."""
    link = existing(connection, name)
    with reporting(f"configure {name}"):
        connection.link("set", index=link.index, **attributes)
    return existing(connection, name)


def add_address(connection: Session, name: str, address: str, prefix_length: int) -> None:
    """Gives link ``name`` an IPv4 or IPv6 address."""
    link = existing(connection, name)
    with reporting(f"give {name} the address {address}"):
        connection.addr("add", index=link.index, address=address, prefixlen=prefix_length)


def delete(connection: Session, link: Link) -> bool:
    """Deletes ``link``; tells whether it was there, and still the same one (name, index and kind)."""
    with reporting(f"delete {link.name}"):
        there = find(connection, link.name)
        if there is None or (there.index, there.kind) != (link.index, link.kind):
            return False
        try:
            connection.link("del", index=link.index)
        except NetlinkError as error:
            if error.code != errno.ENODEV:  # gone meanwhile: the kernel deletes both ends of a veth with either one
                raise
            return False
    return True


def offloads_off(name: str) -> None:
    """Makes ``name``, in the calling thread's namespace, carry frames as a plain NIC does.

    Every frame is at most one MTU long and its checksum is computed by whoever sends it, in software; otherwise a
    veth hands over 64 KiB "frames" without checksums, which no wire carries and no Lance takes.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for offload, command in _OFFLOADS.items():
            value = array.array("I", (command, 0))
            address, _ = value.buffer_info()
            with reporting(f"switch {offload} of {name} off"):
                try:
                    fcntl.ioctl(any_socket, _SIOCETHTOOL, _IFREQ_POINTER.pack(name.encode(), address))
                except OSError as error:
                    if error.errno != errno.EOPNOTSUPP:  # a link without the feature: it is off
                        raise


def statistics(connection: Session, link: Link) -> LinkStatistics:
    """What ``link`` has carried and lost so far."""
    with reporting(f"read the statistics of {link.name}"):
        (message,) = connection.get_links(link.index)
        queues = [q for q in connection.get_qdiscs(index=link.index) if q["index"] == link.index]
    counts = message.get_attr("IFLA_STATS64")
    names = [field.name for field in fields(LinkStatistics) if field.name != "queue_drops"]
    return LinkStatistics(**{name: counts[name] for name in names}, queue_drops=sum(map(_drops, queues)))


def _drops(queue: Any) -> int:
    groups = queue.get_attr("TCA_STATS2")
    counts = groups.get_attr("TCA_STATS_QUEUE") if groups is not None else None
    return int(counts["drops"]) if counts is not None else 0
