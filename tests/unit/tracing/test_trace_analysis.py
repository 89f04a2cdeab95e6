"""What is read out of a trace: segments of the OUT that transmits, and whose time it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.tracing.record import Trace
from lab.tracing.segments import ON_THE_WIRE, SEGMENTS, TOTAL, transmissions
from lab.tracing.shares import KINDS, divide
from machine import trace as events
from machine.ring import KIND_IN, KIND_OUT, pack_key
from machine.trace import EVENTS, Record, trap_argument

OUT = trap_argument(pack_key(KIND_OUT, 2, 0x1010), 9)
TRANSMIT = (
    (1000, 2000, events.TRAP, OUT),
    (1100, 1950, events.VMM_TRAP, OUT),
    (1150, 1700, events.SWITCH, 1),
    (1250, 1600, events.HOST_WORLD, 1),
    (1300, 1500, events.ENGINE, 2),
    (1350, 1450, events.TAP_WRITE, 60),
    (1800, 1900, events.DELIVER, 0),
)


def make(*rows: tuple[int, int, int, int], begin: int = 0, end: int = 10_000) -> Trace:
    """A trace of these records."""
    trace = Trace(begin, end, {role: [] for role in ("guest", "vmm", "vmapp")})
    for row in rows:
        trace.records[EVENTS[row[2]].role].append(Record(*row))
    for records in trace.records.values():
        records.sort(key=lambda record: (record.begin, -record.end))
    return trace


def test_segments_follow_one_another() -> None:
    """The segments are the times between the marks, and together the whole OUT."""
    (found,) = transmissions(make(*TRANSMIT))
    times = [found[name] for name in SEGMENTS]
    assert times == [0, 100, 50, 100, 100, 100, 150, 100, 200, 100]
    assert found[ON_THE_WIRE] == 450
    assert found[TOTAL] == sum(times) == 1000


def test_waking_from_idle_is_a_segment() -> None:
    """Where the guest was halted, the end of the idle host world is told apart from the trap."""
    (found,) = transmissions(make(*TRANSMIT, (100, 1080, events.IDLE, 2)))
    assert (found["wake"], found["trap"]) == (80, 20)


def test_only_outs_that_transmit_count() -> None:
    """An IN, a trap without a switch, and a switch without a write are no transmissions."""
    read = trap_argument(pack_key(KIND_IN, 2, 0x1010), 9)
    rows = [(begin, end, code, read if argument == OUT else argument) for begin, end, code, argument in TRANSMIT]
    assert not list(transmissions(make(*rows)))
    assert not list(transmissions(make(*(row for row in TRANSMIT if row[2] != events.TAP_WRITE))))
    assert not list(transmissions(make(*(row for row in TRANSMIT if row[2] != events.HOST_WORLD))))
    assert not list(transmissions(make(*(row for row in TRANSMIT if row[2] != events.VMM_TRAP))))


def test_each_moment_belongs_to_the_innermost_work() -> None:
    """A transmitting OUT is write(), Lance, interrupt delivery, and for the rest the switch; else the guest runs."""
    division = divide(make(*TRANSMIT))
    assert division.ns["tap_write"] == 100
    assert division.ns["lance_transmit"] == 100
    assert division.ns["irq_delivery"] == 100
    assert division.ns["switching"] == 700
    assert division.ns["guest"] == 9000
    assert division.counts["switching"] == 1
    assert division.average_ns("lance_transmit", per="tap_write") == 100


def test_traps_are_told_apart_by_their_port() -> None:
    """RAP, data port, PIC and others, if they do not switch."""
    ports = {"rap": 0x1012, "status": 0x1010, "pic": 0x20, "other_ports": 0xCF8}
    rows = []
    for number, port in enumerate(ports.values()):
        argument = trap_argument(pack_key(KIND_OUT, 2, port), number)
        rows.append((1000 * number, 1000 * number + 500, events.TRAP, argument))
    division = divide(make(*rows))
    assert {kind: division.ns[kind] for kind in ports} == dict.fromkeys(ports, 500)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 900), st.integers(0, 100), st.sampled_from(sorted(EVENTS)), st.integers(0, (1 << 64) - 1)
        ),
        max_size=40,
    )
)
def test_shares_always_add_up(rows: list[tuple[int, int, int, int]]) -> None:
    """Whatever a trace contains, every moment is somebody's and nobody has less than no time."""
    division = divide(
        make(*((begin, begin + length, code, argument) for begin, length, code, argument in rows), end=1000)
    )
    assert sum(division.ns.values()) == division.whole_ns == 1000
    assert min(division.ns.values()) >= 0
    assert abs(division.share(*KINDS) - 1) < 1e-9
