"""What a stack has done so far: counters, port statistics, world-switch times, and what follows from them.

Counters are ``machine.counters``; the port table and the switch times are ``machine.layout``. What is derived from
them is derived here and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lab.portnames import LANCE_RAP, PIC_PORTS
from lab.readings import io_traps, percentile
from machine.counters import COUNTERS, read_all
from machine.lance.pci import PciConfig
from machine.lance.state import LINK_UP
from machine.layout import PORT_SLOTS, PORT_TABLE, PORT_WORDS, SWITCH_SAMPLE_COUNT, SWITCHES_BACK, SWITCHES_THERE
from machine.ports import LANCE_DEFAULT_BASE, LANCE_PORTS
from machine.trouble import read_trouble
from machine.world import REASONS

if TYPE_CHECKING:  # it brings pyroute2 along, which takes 0.2 s to import
    from lab.stack import Stack

__all__ = ["COUNTER_NAMES", "DERIVED", "OTHER_PORTS", "derive", "measure", "ports_of", "switch_times"]

Ports = dict[str, dict[str, int]]

DERIVED: Final = {
    "io_in": "port reads that trapped",
    "io_out": "port writes that trapped",
    "io_switched": "of both, those that needed a switch to the host world",
    "io_handled_in_vmm": "of both, the others",
    "world_switches": "switches vmm -> vmapp, whatever for; each has one switch back",
    "pic_accesses": "of both, those to the two 8259A",
    "handled_in_vmm_ns": "time in accesses to ports that never switch: all but the Lance's, and the Lance's RAP",
}

COUNTER_NAMES: Final = (*(counter.name for counter in COUNTERS), *DERIVED)

OTHER_PORTS: Final = "other"  # the table's last entry: ports that found it full
_HIGHEST_PORT: Final = 0xFFFF
_LARGEST: Final = (1 << 64) - 1


def measure(stack: Stack) -> dict[str, Any]:
    """{"at_ns", "counters", "ports", "world_switch_ns", "cable", "lance", "foreign", "troubles"} of a running stack.

    All are plain values. "at_ns" is when that was, by CLOCK_MONOTONIC: rates are per second of the time between two
    readings, not between two questions. "lance" is the Lance's first port; "foreign" says that the guest is not ours;
    "troubles" are lines for the user.
    """
    pages, words = stack.counters, stack.lance
    page = pages["vmm"]
    lance = PciConfig(words).io_base or LANCE_DEFAULT_BASE
    counters = dict(read_all(pages))
    ports = ports_of(page)
    return {
        "at_ns": time.monotonic_ns(),
        "counters": counters | derive(counters, ports, lance),
        "ports": ports,
        "world_switch_ns": switch_times(page),
        "cable": bool(words[LINK_UP]),
        "lance": lance,
        "foreign": stack.settings.foreign,
        "troubles": _troubles(stack, page),
    }


def _troubles(stack: Stack, page: memoryview) -> list[str]:
    """What the user should know of: what a guest or client was refused, and pages that are not what they were."""
    trouble, cut = read_trouble(page), stack.keeper.cut
    lines = [] if trouble is None else [trouble]
    if cut:
        lines.append(f"a process has cut shared pages ({', '.join(cut)}): not all figures are right")
    return lines


def ports_of(page: memoryview) -> Ports:
    """The vmm's port table: port as "0x1010" -> reads, writes, and ns from trap to answer. ``page``: format "Q"."""
    found: Ports = {}
    for slot in range(PORT_SLOTS):
        start = PORT_TABLE + slot * PORT_WORDS
        name, reads, writes, ns = page[start : start + PORT_WORDS]
        if name:
            label = f"{name - 1:#06x}" if name - 1 <= _HIGHEST_PORT else OTHER_PORTS
            found[label] = {"reads": reads, "writes": writes, "ns": ns}
    return found


def derive(counters: Mapping[str, int], ports: Ports, lance: int = LANCE_DEFAULT_BASE) -> dict[str, int]:
    """The counters that follow from others (``DERIVED``). ``lance``: the Lance's first port."""
    rap, others = lance + LANCE_RAP, range(lance, lance + LANCE_PORTS)
    io_in = sum(port["reads"] for port in ports.values())
    io_out = sum(port["writes"] for port in ports.values())
    switched = counters["switches_for_io"]
    traps = io_traps({"io_in": io_in, "io_out": io_out})
    found = {
        "io_in": io_in,
        "io_out": io_out,
        "io_switched": switched,
        "io_handled_in_vmm": max(0, traps - switched),  # max: the vmm counts on between two of our reads
        "world_switches": sum(counters[name] for name in REASONS.values()),
        "pic_accesses": _total(ports, lambda number: number in PIC_PORTS, ("reads", "writes")),
        "handled_in_vmm_ns": _total(ports, lambda number: number == rap or number not in others, ("ns",)),
    }
    # The pages are the processes' own, and hold what they please: a sum must still fit into a message.
    return {name: min(value, _LARGEST) for name, value in found.items()}


def _total(ports: Ports, wanted: Callable[[int], bool], fields: tuple[str, ...]) -> int:
    return sum(
        port[field] for name, port in ports.items() if name != OTHER_PORTS and wanted(int(name, 16)) for field in fields
    )


def switch_times(page: memoryview) -> dict[str, int | None]:
    """Of the last world switches, each way for itself: times in ns, both ways together and their medians apart."""
    there, back = _samples(page, SWITCHES_THERE), _samples(page, SWITCHES_BACK)
    both = sorted(there + back)
    return {
        "p50": _percentile(both, 50),
        "p99": _percentile(both, 99),
        "samples": len(both),
        "there_p50": _percentile(there, 50),
        "back_p50": _percentile(back, 50),
    }


def _samples(page: memoryview, first: int) -> list[int]:
    return sorted(time for time in page[first : first + SWITCH_SAMPLE_COUNT] if time)


def _percentile(times: list[int], percent: int) -> int | None:
    return int(percentile(times, percent)) if times else None
