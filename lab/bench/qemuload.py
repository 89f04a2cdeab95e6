"""What is asked of a stock guest in a measurement: pings, TCP both ways, and reads of a register, one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from lab.bench.rounds import Effort
from lab.bench.validity import Measured
from lab.guestconsole import GuestConsole
from lab.load import iperf3
from lab.load.ping import PingResult, ping
from lab.load.place import Place
from lab.readings import each_packet as per_packet
from lab.readings import median, megabits, percentile
from machine.errors import BenchError

__all__ = [
    "UNITS",
    "Guest",
    "access_cost",
    "frames",
    "interrupts",
    "per_packet",
    "pings",
    "round_trips",
    "send_apart",
    "tcp_report",
    "transfer",
]

_INTERFACE: Final = "eth0"

UNITS: Final = {
    "rtt_p50_ms": "ms",
    "rtt_p99_ms": "ms",
    "pings": "packets",
    "pings_lost": "packets",
    "goodput_mbps": "Mb/s",
    "sent_mbps": "Mb/s",
    "retransmits": "segments",
    "received_bytes": "bytes",
    "irqs_per_packet": "1",
    "port_accesses_per_packet": "1",
    "world_switches_per_packet": "1",
    "access_us": "us",
}
"""Unit of every metric. Packets: frames through the NIC, both ways, as the guest's kernel counts them."""

_PINGS: Final = 200
_FEWEST_PINGS: Final = 20
_PING_INTERVAL: Final = (
    0.02  # seconds; from 10 ms down, ping(8) does not sleep between two of them, and takes a CPU away
)
_GRACE_SECONDS: Final = 20.0
_IN_FLIGHT_BYTES: Final = 6 << 20  # by what both may differ at the end: tcp_wmem of 4 MiB, tcp_rmem of 1 MiB, queues
_READS: Final = 10  # at a time: 2 ms, which some of the blocks get without anybody coming between
_BLOCKS: Final = 400  # by turns, so that a machine that becomes slower does so for both
_ACCESSES_A_READ: Final = 2  # pcnet32_get_stats: RAP = 112, then RDP

# A statistic that is read from the chip's missed-frame counter each time, and the same file of a card without one.
_STATISTICS: Final = "/sys/class/net/{card}/statistics"
_TIMED: Final = """\
reads() {{
    cd $1
    i=0
    while [ $i -lt {reads} ]; do read -r x <rx_missed_errors; i=$((i + 1)); done
}}
block=0
while [ $block -lt {blocks} ]; do
    from=$EPOCHREALTIME
    reads {device}
    between=$EPOCHREALTIME
    reads {control}
    echo $from $between $EPOCHREALTIME
    block=$((block + 1))
done
"""

# Status 1: no answer, as it must be. The last one waits no longer than the others.
_UNANSWERED: Final = """\
to=$(ip -4 -o address show dev {interface} | sed 's/.* brd \\([0-9.]*\\).*/\\1/')
ping -q -c {count} -i {gap:g} -W 1 "$to" 2>&1
sleep {gap:g}
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A stock guest that runs: its console, its address, and the machine at the other end of its wire.

    ``pids``: of processes that are the guest and belong to no stack.
    """

    console: GuestConsole
    address: str
    peer: Place
    pids: tuple[int, ...] = ()


def round_trips(guest: Guest, effort: Effort) -> dict[str, float]:
    """Of pings from the peer, which has a clock that nobody emulates. BenchError if none at all is answered.

    Pings that are lost are a figure like others: a machine that is busy loses some, and the rest is measured.
    """
    result = pings(guest, effort)
    if not result.rtts_ms:
        raise BenchError(f"the guest answered none of {result.sent} pings")
    return {
        "rtt_p50_ms": median(result.rtts_ms),
        "rtt_p99_ms": percentile(result.rtts_ms, 99),
        "pings": result.sent,
        "pings_lost": result.lost,
    }


def pings(guest: Guest, effort: Effort) -> PingResult:
    """Pings from the peer for about as long as ``effort`` says, those that are lost included."""
    count = min(_PINGS, max(_FEWEST_PINGS, int(effort.seconds / _PING_INTERVAL)))
    return ping(guest.peer, guest.address, count=count, interval=_PING_INTERVAL)


def transfer(guest: Guest, direction: str, effort: Effort) -> Measured:
    """One TCP connection: what arrived, what was sent, what was sent again (``tcp_report``)."""
    report = tcp_report(guest.console, guest.peer, direction, seconds=effort.seconds, omit=effort.warm_up)
    result = iperf3.tcp_result(report)
    metrics = {
        "goodput_mbps": result.goodput_mbps,
        "sent_mbps": megabits(report["end"]["sum_sent"]["bits_per_second"]),
        "retransmits": result.retransmits,
        "received_bytes": result.bytes,
    }
    return Measured(metrics, {"retries": result.retries})


def tcp_report(
    console: GuestConsole,
    peer: Place,
    direction: str,
    *,
    seconds: float,
    omit: float,
    operation_bytes: int | None = None,
) -> dict[str, Any]:
    """iperf3's report of one TCP connection, ``direction`` "transmit" (the guest sends) or "receive".

    ``seconds``, and ``omit`` of warm-up before them, are rounded up to whole ones. BenchError unless sender and
    receiver agree on what was carried.
    """
    lasting, warm_up = math.ceil(seconds), math.ceil(omit)
    command = f"iperf3 -c {peer.address} -J -t {lasting} -O {warm_up}"
    command += "" if operation_bytes is None else f" -l {operation_bytes}"
    command += " -R" if direction == "receive" else ""
    report = iperf3.served(
        peer, lambda _: iperf3.parse(console.run(command, lasting + warm_up + _GRACE_SECONDS).output)
    )
    received, sent = iperf3.tcp_result(report).bytes, report["end"]["sum_sent"]["bytes"]
    if abs(sent - received) > _IN_FLIGHT_BYTES:
        raise BenchError(f"the sender says {sent} bytes, the receiver {received}: do not believe it")
    return report


def send_apart(console: GuestConsole, count: int, gap: float) -> None:
    """The guest sends ``count`` frames that nobody answers, ``gap`` seconds apart: pings to its network's broadcast.

    Linux takes no notice of those (icmp_echo_ignore_broadcasts, on by default).
    """
    command = _UNANSWERED.format(interface=_INTERFACE, count=count, gap=gap)
    if "packets transmitted" not in (said := console.run(command, count * gap + _GRACE_SECONDS).output):
        raise BenchError(f"the guest's ping failed: {said.strip()[-200:]!r}")


def access_cost(guest: Guest) -> dict[str, float]:
    """Microseconds that the guest takes for one port access, by its own clock.

    A statistic is read many times, for which the driver makes two accesses, and so is a file that needs none. The
    quickest blocks of reads are compared: disturbances only add, and on a machine that is busy with something else
    the difference of two long runs would be theirs.
    """
    paths = {"device": _STATISTICS.format(card=_INTERFACE), "control": _STATISTICS.format(card="lo")}
    printed = guest.console.check(_TIMED.format(reads=_READS, blocks=_BLOCKS, **paths), _GRACE_SECONDS)
    clock = [[float(second) for second in line.split()] for line in printed.splitlines()]
    extra = min(between - first for first, between, _ in clock) - min(last - between for _, between, last in clock)
    return {"access_us": extra / (_READS * _ACCESSES_A_READ) * 1e6}


def frames(console: GuestConsole) -> int:
    """Frames sent and received so far, as the driver counts them."""
    folder = f"/sys/class/net/{_INTERFACE}/statistics"
    return sum(map(int, console.check(f"cat {folder}/tx_packets {folder}/rx_packets").split()))


def interrupts(console: GuestConsole) -> int:
    """Interrupts that the driver has been called for so far (/proc/interrupts, on one CPU)."""
    for line in console.check("cat /proc/interrupts").splitlines():
        words = line.split()
        if words and words[-1] == _INTERFACE:
            return int(words[1])
    raise BenchError(f"the guest's /proc/interrupts knows no {_INTERFACE}")
