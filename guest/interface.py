"""What the guest's kernel has set on its interface, and so wants of the card behind it.

On a PC the kernel calls its driver: ``ndo_open``, ``ndo_stop``, ``ndo_set_rx_mode``, ``ndo_set_mac_address``. The
guest's kernel is the host's, its interface a TAP, and a TAP's driver keeps such calls to itself. But the kernel
tells everybody who asks what it has set: rtnetlink flags and MAC, /proc/net/dev_mcast the groups. It announces
most changes; those that it does not (a group that a packet socket or a macvlan joins) show at the next look.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from socket import if_nametoindex
from typing import Final, Protocol
from zlib import crc32

from netbackend import namespaces
from netbackend.linkwatch import LinkNews, LinkWatch
from netbackend.tap import identity_of, interface_of

__all__ = ["CardSettings", "Interface", "card_settings", "hash_filter", "watch_interface"]

_EVERY_GROUP: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class CardSettings:
    """What a Lance can do about it. ``mac``: six bytes. ``ladrf``: the logical address filter, 64 bits."""

    up: bool
    mac: bytes
    promiscuous: bool
    ladrf: int


class Interface(Protocol):
    """The interface as the driver's loop sees it."""

    def fileno(self) -> int:
        """Readable when the kernel has announced a change."""

    def look(self) -> CardSettings | None:
        """What the kernel wants now; None if it can't be told, as of an interface that has been moved away."""


class _WatchedInterface:
    """An interface in the guest's network namespace."""

    def __init__(self, watch: LinkWatch) -> None:
        self._watch = watch

    def fileno(self) -> int:
        """The rtnetlink socket."""
        return self._watch.fileno()

    def look(self) -> CardSettings | None:
        """Flags and MAC by rtnetlink, groups from the file."""
        news = self._watch.look()
        return None if news is None or len(news.mac) != 6 else card_settings(news, self._watch.groups())


def watch_interface(tap_fd: int) -> Interface:
    """The interface of the guest's TAP. To be called before privileges go; what it opens stays open.

    SetupError or NetworkError if the kernel refuses.
    """
    name, namespace = interface_of(tap_fd)
    try:
        return _WatchedInterface(
            namespaces.run_in(namespace, lambda: LinkWatch(if_nametoindex(name), lambda: identity_of(tap_fd)))
        )
    finally:
        os.close(namespace)


def card_settings(news: LinkNews, groups: frozenset[bytes] | None) -> CardSettings:
    """The settings that follow from flags, MAC and groups (None: too many to name)."""
    every = news.all_multicast or groups is None
    ladrf = _EVERY_GROUP if every or groups is None else hash_filter(groups)
    return CardSettings(news.up, news.mac, news.promiscuous, ladrf)


def hash_filter(groups: frozenset[bytes]) -> int:
    """LADRF for these multicast MACs, bit n of the number being bit n of the filter.

    The chip runs the address through the CRC-32 of the FCS and takes the upper six bits of the register as they are
    (Am79C970A data sheet, "Logical Address Filter"); pcnet32_load_multicast: ``ether_crc_le(6, addr) >> 26``.
    """
    ladrf = 0
    for group in groups:
        ladrf |= 1 << ((crc32(group) ^ 0xFFFFFFFF) >> 26)
    return ladrf
