"""One link as its kernel has it now, and a descriptor that is readable when something about it may have changed.

This is rtnetlink on a bare socket, without pyroute2: the guest process uses it, and must neither wait for a
library to load nor open anything once its privileges are gone. Socket and file belong to the network namespace
that they were opened in, wherever their user lives; reading them needs no privilege. Source: rtnetlink(7),
``linux/rtnetlink.h``, ``linux/if_link.h``, ``net/core/net-procfs.c``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from netbackend.refusal import refusal

__all__ = ["LinkNews", "LinkWatch", "parse_groups", "parse_links"]

_NETLINK_ROUTE: Final = 0
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_RTNLGRP_LINK: Final = 1
# Besides links: addresses, whose coming and going changes the groups that are joined, and the groups themselves
# (RTNLGRP_IPV4_IFADDR, _IPV6_IFADDR; _IPV4_MCADDR, _IPV6_MCADDR, which kernels before 6.14 don't know).
_FURTHER_GROUPS: Final = (5, 9, 37, 38)

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_IFINFO: Final = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct rtattr: length, type
_WORD: Final = struct.Struct("=I")
_RTM_NEWLINK: Final = 16
_RTM_GETLINK: Final = 18
_NLM_F_REQUEST: Final = 1
_RTEXT_FILTER_SKIP_STATS: Final = 1 << 3
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_EXT_MASK: Final = 29
_IFLA_PROMISCUITY: Final = 30
_IFLA_ALLMULTI: Final = 61  # since Linux 6.0; before, only what a user has set shows, in the flags
_IFF_UP: Final = 0x1
_IFF_PROMISC: Final = 0x100
_IFF_ALLMULTI: Final = 0x200
_TYPE_MASK: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_MAC_BYTES: Final = 6
_ANSWER_BYTES: Final = 1 << 16
_GROUPS_BYTES: Final = 1 << 16  # about 1500 groups, many more than a filter of 64 bits can tell apart
_MOST_MESSAGES: Final = 1024  # of one look; a kernel that says more is listened to again at the next


@dataclass(frozen=True, slots=True)
class LinkNews:
    """``mac``: its bytes. ``promiscuous`` and ``all_multicast`` whoever asked for it: a user, a socket, a macvlan.

    ``name``: a label; a link that has got another one is the same, and so is the news of it.
    """

    index: int
    up: bool
    mac: bytes
    mtu: int
    promiscuous: bool
    all_multicast: bool
    name: str = field(default="", compare=False)


class LinkWatch:
    """Watches link ``index``. To be made inside the link's namespace; usable everywhere, by anybody, from then on."""

    def __init__(self, index: int, identity: Callable[[], tuple[str, bytes]] | None = None) -> None:
        """``identity``: name and MAC of the link, wherever it is now, or OSError; None: what was last seen of it.

        It is asked when the index is gone. A link has its index for as long as it stays in its namespace: one that is
        moved to where the number is taken gets another, and keeps it when it comes back. NetworkError or SetupError if
        the kernel refuses the socket or the file.
        """
        self.index = index
        self._identity = identity
        self._seen: LinkNews | None = None
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_LINK)
            for group in _FURTHER_GROUPS:
                with suppress(OSError):  # a kernel without the group: the look once a second will do
                    self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            # /proc/self/net would be the main thread's namespace, and not the one that this thread has entered.
            self._groups = os.open("/proc/thread-self/net/dev_mcast", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise refusal("watch an interface", error.errno) from None
        self._question = _question(index)

    def fileno(self) -> int:
        """Readable when there is news, of this link or of a neighbour."""
        return self._socket.fileno()

    def close(self) -> None:
        """Gives both descriptors back."""
        self._socket.close()
        os.close(self._groups)

    def look(self) -> LinkNews | None:
        """The link as it is now; None when it is gone, or the kernel has no memory for an answer.

        What was announced only says that it is worth asking, so announcements that the kernel had to drop are no loss.
        """
        found = None
        for news in self._ask(self._question):
            if news.index == self.index:
                found = news
        if found is None:
            found = self._find_again()
        if found is not None:
            self._seen = found
        return found

    def _last_seen(self) -> tuple[str, bytes]:
        if self._seen is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self._seen.name, self._seen.mac

    def _ask(self, question: bytes) -> Iterator[LinkNews]:
        """The links of all that the kernel has announced, and of its answer, which comes last."""
        with suppress(OSError):
            self._socket.send(question)  # the answer is in the queue when this returns, behind all announcements
        for data in self._messages():
            yield from parse_links(data)

    def _find_again(self) -> LinkNews | None:
        """The link under its new index, if it is in this namespace.

        Its name alone would not do: while it is elsewhere, another link here may have the same.
        """
        try:
            name, mac = self._identity() if self._identity is not None else self._last_seen()
        except OSError:
            return None
        found = None
        for news in self._ask(_question(0, name)):
            if news.name == name and news.mac == mac:
                found = news
        if found is not None:
            self.index, self._question = found.index, _question(found.index)
        return found

    def groups(self) -> frozenset[bytes] | None:
        """The multicast MACs that the link's kernel wants to hear, its own and those that programs have joined.

        None if they are too many to read: whoever asks had better hear all of them.
        """
        text = b""
        with suppress(OSError):
            while more := os.pread(self._groups, _GROUPS_BYTES, len(text)):  # a page at a time, whatever is asked for
                text += more
                if len(text) >= _GROUPS_BYTES:
                    return None
        return parse_groups(text, self.index)

    def _messages(self) -> Iterator[bytes]:
        for _ in range(_MOST_MESSAGES):
            try:
                data, sender = self._socket.recvfrom(_ANSWER_BYTES)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: announcements were dropped; the rest of the queue is still there
                continue
            if sender[0] == 0:  # the kernel, and not a program that has guessed our port
                yield data


def _question(index: int, name: str = "") -> bytes:
    """RTM_GETLINK for a link by its index, or by its name where the index is 0."""
    body = _IFINFO.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    body += _ATTRIBUTE.pack(8, _IFLA_EXT_MASK) + _WORD.pack(_RTEXT_FILTER_SKIP_STATS)
    if name:
        value = os.fsencode(name) + b"\0"
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), _IFLA_IFNAME) + value + bytes(-len(value) % 4)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _NLM_F_REQUEST, 1, 0) + body


def parse_links(data: bytes) -> Iterator[LinkNews]:
    """The links of a packet of rtnetlink messages; what is not a whole and plain RTM_NEWLINK is passed over."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, offset)
        end = offset + length
        if length < _HEADER.size or end > len(data):
            return
        body = offset + _HEADER.size
        if kind == _RTM_NEWLINK and body + _IFINFO.size <= end:
            family, _type, index, flags, _change = _IFINFO.unpack_from(data, body)
            if family == socket.AF_UNSPEC:  # other families tell only their own part, as a bridge of its ports
                yield _news(index, flags, dict(_attributes(data, body + _IFINFO.size, end)))
        offset = end + 3 & ~3


def _attributes(data: bytes, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset = offset + length + 3 & ~3


def _news(index: int, flags: int, attributes: dict[int, bytes]) -> LinkNews:
    def number(kind: int) -> int:
        value = attributes.get(kind, b"")
        return int(_WORD.unpack(value)[0]) if len(value) == _WORD.size else 0

    return LinkNews(
        index=index,
        up=bool(flags & _IFF_UP),
        mac=attributes.get(_IFLA_ADDRESS, b""),
        mtu=number(_IFLA_MTU),
        # The flags have what a user set; sockets, bridges and macvlans raise the counts alone (dev_get_flags).
        promiscuous=bool(flags & _IFF_PROMISC or number(_IFLA_PROMISCUITY)),
        all_multicast=bool(flags & _IFF_ALLMULTI or number(_IFLA_ALLMULTI)),
        name=os.fsdecode(attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0")),
    )


def parse_groups(text: bytes, index: int) -> frozenset[bytes]:
    """Of /proc/net/dev_mcast, the addresses of link ``index``: lines of index, name, users, global users, address."""
    found = set()
    for line in text.splitlines():
        words = line.split()
        if len(words) == 5 and words[0] == str(index).encode():
            with suppress(ValueError):  # not an address in hexadecimal
                found.add(bytes.fromhex(words[4].decode("ascii", "replace")))
    return frozenset(group for group in found if len(group) == _MAC_BYTES)
