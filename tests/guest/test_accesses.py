"""How many port accesses the stock driver makes, in every mode: the same, for they are the driver's, not ours.

Counted from outside and compared with its source (Linux, drivers/net/ethernet/amd/pcnet32.c). Each access to a CSR or
BCR is a write of RAP and an access to RDP or BDP.
"""

from __future__ import annotations

from lab.load.ping import ping
from tests.guest.machine import BDP, RAP, RDP, RESET, Accesses

PROBE = 33  # pcnet32_probe1
OPEN = 37  # pcnet32_open, without the address filter
RX_MODE = 22  # pcnet32_set_multicast_list
INTERRUPT = 14  # pcnet32_interrupt (8) and the end of pcnet32_poll (6)
INTERRUPT_WRITES = 4  # of these, to RDP
LOOK = 2  # CSR0 read or written once more: the interrupt came while the driver was at it
TRANSMIT = 2  # pcnet32_start_xmit
WATCH = 2  # pcnet32_check_link, each two seconds: the only BCR that is read while the chip runs
STATISTICS = 2  # pcnet32_get_stats, whenever the kernel tells programs about the interface
OPEN_READS_OF_BCRS = 3
FLAGS = "/sys/class/net/eth0/flags"  # `ip link` would read the statistics as well, and so the chip
UP = "0x1003"
LONE_PINGS = 20


def watched(cost: Accesses) -> int:
    """Accesses of the driver's watch on the link."""
    return WATCH * cost.reads(BDP)


def test_filter_change(guest):
    """A change of the multicast filter takes 22 accesses."""
    with guest.counted() as cost:
        guest.check("ip maddress add 01:00:00:00:00:43 dev eth0")
    guest.check("ip maddress del 01:00:00:00:00:43 dev eth0")
    assert cost.total - watched(cost) == RX_MODE


def test_probe_and_open(guest):
    """The driver is loaded with 33 accesses, one a reset, and opens the chip with 37 and the receive mode's."""
    guest.check("ip link set eth0 down; rmmod pcnet32")
    with guest.counted() as cost:
        guest.check("insmod /lib/modules/pcnet32.ko")
    assert cost.total == PROBE
    assert cost.reads(RESET) == 1
    with guest.counted() as cost:
        guest.check(f"echo {UP} >{FLAGS}")
    guest.check(f"ip address add {guest.plan.guest.address}/24 broadcast + dev eth0")
    assert cost.reads(RESET) == 1
    left = cost.total - WATCH * (cost.reads(BDP) - OPEN_READS_OF_BCRS) - OPEN - 2 * RX_MODE - INTERRUPT - STATISTICS
    assert left in range(0, 3 * LOOK, LOOK)


def test_lone_requests(guest):
    """An echo request and its answer: 14 accesses an interrupt, of which there are one or two, and 2 to transmit."""
    ping(guest.peer, guest.plan.guest.address, count=2, interval=0.1)  # addresses are resolved
    with guest.counted() as cost:
        result = ping(guest.peer, guest.plan.guest.address, count=LONE_PINGS, interval=0.1)
    assert result.lost == 0
    interrupts, left = explained(cost)
    assert LONE_PINGS <= interrupts <= 2 * cost.sent + 1
    assert left <= 2 * LOOK * interrupts


def explained(cost: Accesses) -> tuple[int, int]:
    """Interrupts whose frames were taken, and the accesses beyond those, transmissions and the watch on the link."""
    assert cost.writes(RAP) == cost.reads(RDP) + cost.writes(RDP) + cost.reads(BDP)
    interrupts = (cost.writes(RDP) - cost.sent) // INTERRUPT_WRITES
    left = cost.total - INTERRUPT * interrupts - TRANSMIT * cost.sent - watched(cost)
    assert left >= 0
    assert left % LOOK == 0
    return interrupts, left


def test_frames_in_quick_succession(guest):
    """Many frames at once cost no more than lone ones: two accesses to send one, and less than an interrupt each."""
    guest.check("ping -c 1 peer")
    with guest.counted() as cost:
        guest.check("ping -q -i 0.002 -c 500 -s 1400 peer", 20)
    interrupts, left = explained(cost)
    assert cost.sent >= 500
    assert interrupts <= cost.sent + cost.received
    assert left <= 2 * LOOK * interrupts
