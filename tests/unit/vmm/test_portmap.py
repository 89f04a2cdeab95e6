"""The I/O port map: claims, refusals, look-up, and what an access that nobody decodes does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import PortOverlapError, PortRangeError
from machine.portmap import PORTS, PortMap, all_ones


class Recorder:
    """A device that remembers its accesses and answers reads with their offset."""

    def __init__(self) -> None:
        self.accesses: list[tuple[int, ...]] = []

    def read(self, offset: int, width: int) -> int:
        self.accesses.append((offset, width))
        return offset

    def write(self, offset: int, width: int, value: int) -> int:
        self.accesses.append((offset, width, value))
        return 6


@pytest.fixture
def ports() -> PortMap:
    """Ports 0x1000-0x101f belong to "lance", 0x1020-0x1023 to "next"."""
    ports = PortMap()
    ports.claim(0x1000, 32, "lance", Recorder())
    ports.claim(0x1020, 4, "next", Recorder())
    return ports


def test_lookup_names_the_claim(ports: PortMap):
    """A claim carries its range and owner, and every one of its ports finds it."""
    claim = ports.lookup(0x101F, 1)
    assert claim is not None
    assert (claim.first, claim.count, claim.owner) == (0x1000, 32, "lance")
    assert ports.lookup(0x1000, 4) is claim
    assert ports.claims()[0] is claim


@pytest.mark.parametrize(
    ("port", "width", "owner"),
    [
        (0x1000, 1, "lance"),
        (0x101C, 4, "lance"),
        (0x101D, 4, None),  # would run into "next"
        (0x101F, 2, None),
        (0x1020, 4, "next"),
        (0x1022, 4, None),  # would run into nobody's ports
        (0x0FFF, 2, None),  # begins on nobody's port
        (0x1024, 1, None),
        (-1, 1, None),
        (PORTS, 4, None),
        (0x1000, 0, None),
        (0x1000, -1, None),
        (1 << 80, 1 << 80, None),
    ],
)
def test_access_belongs_to_the_claim_that_holds_it_whole(ports: PortMap, port: int, width: int, owner: str | None):
    """Accesses over the end of a claim are nobody's; so are ports and widths that make no sense."""
    claim = ports.lookup(port, width)
    assert (claim and claim.owner) == owner


@pytest.mark.parametrize(("first", "count"), [(0x1000, 32), (0xFFF, 2), (0x101F, 1), (0x1010, 2), (0, PORTS)])
def test_overlap_is_refused_and_names_both(ports: PortMap, first: int, count: int):
    """The message has both owners and both ranges, and the map stays as it was."""
    before = ports.claims()
    with pytest.raises(
        PortOverlapError, match=rf"^new claims ports {first:#06x}-.*, but lance \(ports 0x1000-0x101f\)"
    ):
        ports.claim(first, count, "new", Recorder())
    assert ports.claims() == before


@pytest.mark.parametrize(
    ("first", "count"), [(-1, 4), (0xFFF0, 32), (PORTS, 1), (0x2000, 0), (0x2000, -4), (1 << 31, 32)]
)
def test_ports_that_do_not_exist_are_refused(ports: PortMap, first: int, count: int):
    """A base address register can hold any 32-bit value; those outside the port space are an error, not a claim."""
    with pytest.raises(PortRangeError, match="ports are 0x0000-0xffff"):
        ports.claim(first, count, "new", Recorder())


def test_release_makes_room(ports: PortMap):
    """A released range can be claimed elsewhere and by others; releasing again finds nothing."""
    assert ports.release("lance")
    assert not ports.release("lance")
    assert ports.lookup(0x1000, 1) is None
    ports.claim(0x1010, 16, "other", Recorder())
    assert [claim.owner for claim in ports.claims()] == ["other", "next"]


def test_accesses_reach_the_handler(ports: PortMap):
    """Offsets count from the claim's first port, and the handler's effect bits come back."""
    claim = ports.lookup(0x1000, 1)
    assert claim is not None
    assert ports.read(0x1012, 2) == 0x12
    assert ports.write(0x1010, 4, 0xABCD) == 6
    assert isinstance(claim.handler, Recorder)
    assert claim.handler.accesses == [(0x12, 2), (0x10, 4, 0xABCD)]


@pytest.mark.parametrize(
    ("width", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF), (0, 0xFFFFFFFF), (1 << 40, 0xFFFFFFFF)]
)
def test_unclaimed_ports_read_ones_and_swallow_writes(ports: PortMap, width: int, ones: int):
    """Nobody drives the bus: all ones of the access's width."""
    assert all_ones(width) == ports.read(0x80, width) == ones
    assert ports.write(0x80, width, 0) == 0


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 16))), st.integers(-2, 80), st.sampled_from([1, 2, 4]))
def test_claims_never_share_a_port(ranges: list[tuple[int, int]], port: int, width: int):
    """Against a plain list of accepted ranges: same refusals, same owner for any access."""
    ports = PortMap()
    accepted: list[tuple[int, int]] = []
    for first, count in ranges:
        clashes = any(first < f + n and f < first + count for f, n in accepted)
        try:
            ports.claim(first, count, f"{first}+{count}", Recorder())
        except PortOverlapError:
            assert clashes
        else:
            assert not clashes
            accepted.append((first, count))
    claim = ports.lookup(port, width)
    owners = [f"{f}+{n}" for f, n in accepted if f <= port and port + width <= f + n]
    assert ([claim.owner] if claim else []) == owners
