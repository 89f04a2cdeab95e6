"""Every doorbell, on one CPU and on two: the stack boots, answers and carries a stream."""

from __future__ import annotations

import pytest

from machine.config import CHOICES
from machine.doorbell import DOORBELLS
from machine.errors import UnsoundDoorbellError
from tests.kit.programs import ping, tcp_transfer
from tests.kit.stack import running

PINGS = 30


@pytest.mark.parametrize("cpus", [(0,), (0, 1)], ids=["one-cpu", "two-cpus"])
@pytest.mark.parametrize("doorbell", DOORBELLS)
def test_every_doorbell_carries_traffic(doorbell, cpus):
    """Boots with this doorbell, loses no ping, and carries TCP for a second, and no segment is lost."""
    try:
        with running(doorbell=doorbell, cpus=cpus, link="100mbit") as bed:
            assert ping(bed, "guest", "peer", PINGS) == PINGS
            assert tcp_transfer(bed, "guest", "peer", 1)[1] == 0
            assert bed.counters()["bad_requests"] == 0
            bed.alive()
    except UnsoundDoorbellError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("mode", CHOICES["mode"])
def test_every_mode_carries_traffic_both_ways(mode):
    """Boots in this mode, loses no ping and no TCP segment either way."""
    with running(mode=mode, link="100mbit") as bed:
        assert ping(bed, "guest", "peer", PINGS) == PINGS
        assert ping(bed, "peer", "guest", PINGS) == PINGS
        assert tcp_transfer(bed, "guest", "peer", 1)[1] == 0
        assert tcp_transfer(bed, "peer", "guest", 1)[1] == 0
        bed.alive()
