"""Clients that send anything: the server answers an error or hangs up, and serves the next one. Never anything else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.vfioattack import KINDS, Attack, well_formed
from tests.kit.vfiodevice import ServedDevice
from vmm.vfiouser.messages import HEADER, MAX_MESSAGE, MESSAGES, MULTI_WRITE, PAGE, Command, HeaderFlag, Layout

SETTINGS = settings(max_examples=120, deadline=None)

EDGES = {
    "H": [0, 1, 0xFFFF],
    "I": [0, 1, 2, 4, 7, 8, 16, 17, 20, 32, 34, 36, PAGE, 1 << 31, (1 << 32) - 1],
    "Q": [0, 1, 16, 31, PAGE - 1, PAGE, 16 * PAGE, 1 << 32, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1],
}
BITS = {"H": 16, "I": 32, "Q": 64}


def field(code: str) -> st.SearchStrategy[Any]:
    """A value of a field, often one at an edge."""
    if code == "8s":
        return st.binary(max_size=8)
    return st.sampled_from(EDGES[code]) | st.integers(0, (1 << BITS[code]) - 1)


def packed(layout: Layout) -> st.SearchStrategy[bytes]:
    """Any values in a layout."""
    return st.tuples(*(field(code) for code in layout.fields.values())).map(lambda values: layout.pack(*values))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message that has a command's layout, and often something wrong with it."""
    command = draw(st.sampled_from([int(command) for command in Command]) | st.integers(0, 0xFFFF))
    known = MESSAGES.get(command)
    payload = draw(packed(known.request)) if known else b""
    payload += draw(st.just(b"") | st.binary(max_size=40) | packed(MULTI_WRITE))
    payload = payload[: draw(st.none() | st.integers(0, 64))]
    flags = draw(st.sampled_from([0, 0, 0, HeaderFlag.NO_REPLY, HeaderFlag.REPLY, 0xF, 0xFFFFFFF0]))
    size = HEADER.size + len(payload)
    lie = draw(st.none() | st.none() | st.integers(0, 64) | st.sampled_from([MAX_MESSAGE, MAX_MESSAGE + 1, 1 << 31]))
    return HEADER.pack(draw(field("H")), command, size if lie is None else lie, flags, 0) + payload


FDS = st.lists(st.sampled_from(sorted(KINDS)), max_size=3) | st.lists(st.just("eventfd"), max_size=12)
GOOD = st.sampled_from(well_formed())


@given(
    greeted=st.booleans(),
    sent=st.lists(st.tuples(messages(), FDS) | GOOD, max_size=12),
    pumped=st.booleans(),
    levels=st.lists(st.integers(0, 1), max_size=12),
)
@SETTINGS
def attack_with_messages(
    served: ServedDevice, greeted: bool, sent: list[tuple[bytes, list[str]]], pumped: bool, levels: list[int]
) -> None:
    """Any messages, the server given time behind each or only at the end, while the line moves."""
    attack = Attack(served)
    if greeted:
        attack.send(*well_formed()[0])
    for number, (data, kinds) in enumerate(sent):
        attack.send(data, kinds)
        if pumped:
            attack.pump()
        if number < len(levels):
            served.server.interrupt.set_level(levels[number])
    attack.pump()
    attack.finish()


@given(
    sent=st.lists(messages() | GOOD.map(lambda good: good[0]), max_size=8),
    cuts=st.lists(st.tuples(st.integers(1, 80), FDS, st.booleans()), min_size=1, max_size=20),
)
@SETTINGS
def attack_with_pieces(served: ServedDevice, sent: list[bytes], cuts: list[tuple[int, list[str], bool]]) -> None:
    """Any messages in any pieces."""
    attack = Attack(served)
    stream = well_formed()[0][0] + b"".join(sent)
    for length, kinds, pumped in cuts:
        attack.send(stream[:length], kinds)
        stream = stream[length:]
        if pumped:
            attack.pump()
    attack.send(stream)
    attack.pump()
    attack.finish()


@given(greeted=st.booleans(), data=st.binary(max_size=3000), kinds=FDS)
@SETTINGS
def attack_with_bytes(served: ServedDevice, greeted: bool, data: bytes, kinds: list[str]) -> None:
    """Any bytes, behind a greeting or not."""
    attack = Attack(served)
    if greeted:
        attack.send(*well_formed()[0])
        attack.pump()
    attack.send(data, kinds)
    attack.pump()
    attack.finish()


def test_hostile_messages(served: ServedDevice) -> None:
    """Structured messages, good and bad, with and without descriptors, alone and one behind the other."""
    attack_with_messages(served)


def test_hostile_pieces(served: ServedDevice) -> None:
    """The same as one stream that is cut anywhere, with descriptors at any piece."""
    attack_with_pieces(served)


def test_hostile_bytes(served: ServedDevice) -> None:
    """Bytes without any structure."""
    attack_with_bytes(served)


def test_good_messages_are_good(served: ServedDevice) -> None:
    """The messages that attacks begin from are answered, one by one, and none with an error."""
    attack = Attack(served)
    for data, kinds in well_formed():
        attack.send(data, kinds)
        attack.pump()
    assert attack.replies == len(MESSAGES)
    assert not [line for line in served.log if "refused" in line]
    attack.finish()
