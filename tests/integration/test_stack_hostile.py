"""A guest that attacks vmm and vmapp with all that a guest can write: both live on, answer, and stay in bounds."""

from __future__ import annotations

import random
import time

import pytest

from machine.config import CHOICES
from tests.kit.frames import PacketSocket, mac_bytes, numbered
from tests.kit.hostile import Canary, hostile_guest
from tests.kit.stack import cpu_seconds, running

SECONDS = 2.0
ANSWER_S = 20.0
LONGEST_TRAP_S = 1.0
FEWEST_TRAPS = 200
MOST_MEMORY = 100 << 20  # bytes resident, each
FRAMES_A_SECOND = 200

KINDS = {
    "paper": {"mode": "2.0"},
    "last-mode": {"mode": CHOICES["mode"][-1]},
    "fast": {"profile": "fast"},
}


def pester(bed, seed, seconds):
    """Frames of every size and address for the hostile guest's NIC, from the peer, until the time is over."""
    rng = random.Random(seed)
    guest, peer = mac_bytes(bed.plan.guest.mac), mac_bytes(bed.plan.peer.mac)
    deadline = time.monotonic() + seconds
    with PacketSocket.of(bed.plan.peer) as wire:
        while time.monotonic() < deadline:
            destination = rng.choice((guest, b"\xff" * 6, b"\x01" + rng.randbytes(5)))
            wire.send(numbered(destination, peer, rng.getrandbits(32), rng.randrange(18, 1514)))
            time.sleep(1 / FRAMES_A_SECOND)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hostile_guest_harms_nobody_but_itself(kind, seed):
    """After seconds of random attacks both processes live, have done bounded work, and serve a sane driver again."""
    with running(hostile_guest(seed, SECONDS), **KINDS[kind]) as bed:
        canary = Canary(bed.stack)
        pester(bed, seed, SECONDS)
        outcome = bed.stack.ask("guest", "sane", ANSWER_S)
        counters = bed.counters()
        bed.alive()
        assert outcome["agreed"], outcome
        assert (outcome["csr0"], outcome["idon"], outcome["sent"]) == (4, True, True), outcome
        assert outcome["answered"] > FEWEST_TRAPS, outcome
        assert outcome["slowest_s"] < LONGEST_TRAP_S, outcome
        assert canary.untouched
        assert all(counters[name] for name in ("bad_requests", "io_unclaimed", "memory_errors", "tx_frames")), counters
        memory = {role: process.memory_info().rss for role, process in bed.processes.items()}
        assert max(memory.values()) < MOST_MEMORY, memory


def test_a_hostile_guest_that_has_stopped_costs_nothing():
    """What a hostile guest leaves behind does not keep vmm or vmapp busy: no endless loop on rings or garbage."""
    with running(hostile_guest(3, 0.5)) as bed:
        bed.stack.ask("guest", "sane", ANSWER_S)
        before = [cpu_seconds(bed.processes[role]) for role in ("vmm", "vmapp")]
        time.sleep(1.0)
        used = [cpu_seconds(bed.processes[role]) - old for role, old in zip(("vmm", "vmapp"), before, strict=True)]
        assert sum(used) < 0.1, used
