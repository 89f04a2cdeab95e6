"""The picture of ``worldswitch top``: rates as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lab.rates import PortRate, Rates
from lab.readings import io_traps, tail_label

__all__ = ["view"]

_SHOWN: Final = ("mode", "ports", "combining", "notification", "driver", "link", "doorbell", "hlt")
_REASONS: Final = ("io", "hlt", "irq", "tick", "send")
_PORTS: Final = 6

Emphasis = Callable[[str], str]


def view(name: str, settings: Mapping[str, Any], status: Mapping[str, Any], rates: Rates, bold: Emphasis) -> list[str]:
    """The lines for one interval; ``bold`` marks a heading. ``status``: the answer at the interval's end."""
    return [
        bold(f"stack {name}   {_settings(settings)}{_cable(status)}{_over(rates)}"),
        "",
        *_counts(rates),
        _switch_times(status["world_switch_ns"]),
        "",
        *_times(rates),
        "",
        *_ports(rates.ports, bold),
    ]


def _cable(status: Mapping[str, Any]) -> str:
    return "" if status.get("cable", True) else "   CABLE PULLED"


def _over(rates: Rates) -> str:
    """The interval that was measured, which may be longer than the one asked for."""
    return f"   over {rates.seconds:.2f} s{', COUNTERS BEGAN ANEW' if rates.anew else ''}"


def _settings(settings: Mapping[str, Any]) -> str:
    chosen = {key: settings.get(key) for key in _SHOWN}
    words = [f"{key} {_switch(value)}" for key, value in chosen.items() if value is not None]
    return "  ".join((*words, f"CPU {','.join(map(str, settings['cpus']))}"))


def _switch(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _counts(rates: Rates) -> Iterator[str]:
    count = rates.counters
    traps = io_traps(count)
    yield (
        f"port traps     {traps:>10,.0f} /s   in the vmm {count['io_handled_in_vmm']:,.0f}   "
        f"switched {count['io_switched']:,.0f}   RAP without a trap {count['rap_stores']:,.0f}"
    )
    reasons = "   ".join(f"{reason} {count[f'switches_for_{reason}']:,.0f}" for reason in _REASONS)
    yield f"world switches {count['world_switches']:>10,.0f} /s   {reasons}"
    yield (
        f"interrupts     {count['irqs_raised']:>10,.0f} /s   host interrupts {count['host_irqs']:,.0f}   "
        f"select() {count['selects']:,.0f}"
    )
    yield (
        f"sent           {count['tx_frames']:>10,.0f} frames/s {rates.sent_mbps:>9,.2f} Mb/s   "
        f"combined {count['sends_combined']:,.0f}"
    )
    yield (
        f"received       {count['rx_frames']:>10,.0f} frames/s {rates.received_mbps:>9,.2f} Mb/s   "
        f"missed {count['rx_missed']:,.0f}"
    )


def _switch_times(times: Mapping[str, int | None]) -> str:
    p50, p99 = times["p50"], times["p99"]
    if p50 is None or p99 is None:
        return "switch time    -"
    last = f"median of the last {times['samples']}, one way"
    return (
        f"switch time    {p50 / 1000:>10,.1f} us   {tail_label(times['samples'] or 0)} {p99 / 1000:,.1f} us   ({last})"
    )


def _times(rates: Rates) -> Iterator[str]:
    yield f"time           guest idle {rates.guest_idle:>4.0%}   host world {rates.host_world:>4.0%}"
    yield "CPU            " + "   ".join(f"{role} {percent:>3.0f}%" for role, percent in rates.cpu.items())


def _ports(ports: tuple[PortRate, ...], bold: Emphasis) -> Iterator[str]:
    """Two rankings side by side."""
    by_time = sorted(ports, key=lambda port: port.share, reverse=True)[:_PORTS]
    by_count = sorted(ports, key=lambda port: port.per_second, reverse=True)[:_PORTS]
    yield bold(f"{'ports by time':<18}{'time':>6}{'us each':>11}     {'ports by count':<18}{'accesses/s':>12}")
    for slow, frequent in zip(by_time, by_count, strict=True):
        yield (
            f"{slow.name:<18}{slow.share:>6.1%}{slow.ns_each / 1000:>11,.1f}     "
            f"{frequent.name:<18}{frequent.per_second:>12,.0f}"
        )
