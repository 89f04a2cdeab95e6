"""What a kernel says of a link: rtnetlink messages and /proc/net/dev_mcast, whole, damaged and for real."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.interface import CardSettings, card_settings, hash_filter
from machine.lance.state import CSR
from netbackend.linkwatch import LinkNews, LinkWatch, parse_groups, parse_links
from vmapp.lance.filter import AddressFilter, hash_index

MAC = bytes.fromhex("025753aabb01")
NEWS = LinkNews(index=2, up=True, mac=MAC, mtu=1500, promiscuous=False, all_multicast=False)
RTM_NEWLINK, RTM_DELLINK = 16, 17
UP, PROMISC, ALLMULTI = 0x1, 0x100, 0x200


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(index: int = 2, flags: int = UP, *attributes: bytes, kind: int = RTM_NEWLINK, family: int = 0) -> bytes:
    """A message about a link; without ``attributes`` it has MAC and MTU."""
    body = struct.pack("=BxHiII", family, 1, index, flags, 0xFFFFFFFF)
    body += b"".join(attributes or (attribute(1, MAC), attribute(4, struct.pack("=I", 1500))))
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 7, 0) + body


def count(kind: int, number: int) -> bytes:
    """A 32-bit attribute."""
    return attribute(kind, struct.pack("=I", number))


def test_a_link_is_read_whole():
    """Index, flags, MAC and MTU; attributes that nobody asked for are passed over."""
    message = link(2, UP, attribute(3, b"eth0\0"), attribute(1, MAC), count(4, 1500), attribute(26, b"odd"))
    assert list(parse_links(message)) == [NEWS]


@pytest.mark.parametrize(
    ("flags", "extra", "promiscuous", "every"),
    [
        (UP, [], False, False),
        (UP | PROMISC, [], True, False),
        (UP | ALLMULTI, [], False, True),
        (UP, [count(30, 1)], True, False),  # a packet socket or a macvlan: the flag stays clear
        (UP, [count(61, 2)], False, True),
        (UP, [count(30, 0), count(61, 0)], False, False),
    ],
)
def test_promiscuous_mode_whoever_asks_for_it(flags: int, extra: list[bytes], promiscuous: bool, every: bool):
    """A user's flag and the kernel's counts: each makes a card promiscuous, or hear all groups."""
    (news,) = parse_links(link(2, flags, attribute(1, MAC), *extra))
    assert (news.promiscuous, news.all_multicast) == (promiscuous, every)


def test_several_messages_in_one_packet():
    """Messages are taken in order; other kinds, and what other families tell of a link, are passed over."""
    packet = link(3) + link(2, kind=RTM_DELLINK) + link(2, 0, family=7) + link(2, 0)
    assert [(news.index, news.up) for news in parse_links(packet)] == [(3, True), (2, False)]


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda noise: link(2, UP, noise)))
def test_rubbish_raises_nothing(data: bytes):
    """Lengths that point nowhere, halves of messages, noise: no exception, and no link that was not there."""
    for news in parse_links(data):
        assert isinstance(news, LinkNews)


@given(st.data())
def test_a_message_that_was_cut_off(data: st.DataObject):
    """Of a packet that ends early, nothing is read beyond its end."""
    whole = link(5) + link(2)
    size = data.draw(st.integers(0, len(whole)))
    assert [news.index for news in parse_links(whole[:size])] == [5, 2][: size // len(link())]


def test_groups_of_one_link():
    """Lines of other links, and lines that are none, are passed over."""
    text = b"2    eth0            1     0     333300000001\n2    eth0            2     1     01005e000001\n"
    text += b"22   other           1     0     333300000022\n2    eth0            1     0     zz\n2 eth0 1 0 33\n\n2\n"
    assert parse_groups(text, 2) == {bytes.fromhex("333300000001"), bytes.fromhex("01005e000001")}


@given(st.binary(max_size=200), st.integers(0, 9))
def test_any_text_is_a_set_of_macs(text: bytes, index: int):
    """Whatever the file holds, the answer is a set of six-byte addresses."""
    assert all(len(group) == 6 for group in parse_groups(text, index))


@pytest.mark.parametrize(
    ("group", "bit"),  # ether_crc_le(6, address) >> 26 of a Linux kernel
    [("333300000001", 23), ("01005e000001", 54), ("3333ff000002", None), ("0180c2000000", None)],
)
def test_the_hash_is_linuxs(group: str, bit: int | None):
    """CRC-32 bit by bit, low bit first, as ``crc32_le(~0, address, 6)``; its upper six bits name the filter's bit."""
    crc = 0xFFFFFFFF
    for octet in bytes.fromhex(group):
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    if bit is not None:
        assert crc >> 26 == bit
    assert hash_filter(frozenset({bytes.fromhex(group)})) == 1 << (crc >> 26)


@given(st.sets(st.binary(min_size=6, max_size=6).map(lambda mac: bytes([mac[0] | 1]) + mac[1:]), max_size=20))
def test_every_group_passes_the_chips_filter(groups: set[bytes]):
    """A filter made by the driver lets through, on the chip's side, every group it was made of."""
    words = memoryview(bytearray(4096)).cast("I")
    ladrf = hash_filter(frozenset(groups))
    assert ladrf.bit_count() <= len(groups)
    chip = AddressFilter()
    for i in range(4):
        words[CSR + 8 + i] = ladrf >> 16 * i & 0xFFFF
    chip.configure(words, match_bits=False)
    assert all(chip.match(group) is not None for group in groups if group != b"\xff" * 6)
    assert all(ladrf >> hash_index(group) & 1 for group in groups)


def test_what_the_card_gets():
    """All groups, because the kernel says so or because they are too many, are a filter of ones."""
    groups = frozenset({bytes.fromhex("333300000001")})
    ones = (1 << 64) - 1
    assert card_settings(NEWS, groups) == CardSettings(True, MAC, False, 1 << 23)
    assert card_settings(NEWS, frozenset()).ladrf == 0
    assert card_settings(NEWS, None).ladrf == ones
    assert card_settings(LinkNews(2, True, MAC, 1500, False, True), groups).ladrf == ones


def test_a_real_kernel_answers_without_privilege():
    """The loopback interface of wherever this test runs: there, with its MTU, and nothing is promiscuous."""
    index = socket.if_nametoindex("lo")
    watch = LinkWatch(index)
    try:
        for _ in range(3):
            news = watch.look()
            assert news is not None
            assert (news.index, len(news.mac), news.promiscuous) == (index, 6, False)
            assert news.mtu > 1500
        groups = watch.groups()
        assert groups is not None
        assert all(len(group) == 6 for group in groups)
    finally:
        watch.close()


def test_a_link_that_is_not_there():
    """A link that has gone has no news."""
    watch = LinkWatch(2_000_000_000)
    try:
        assert watch.look() is None
        assert watch.groups() == frozenset()
    finally:
        watch.close()
