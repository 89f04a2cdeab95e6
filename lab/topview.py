"""The picture of ``worldswitch top``: rates as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lab.rates import PortRate, Rates
from lab.readings import io_traps, tail_label
from lab.textlayout import fields, screen_width

__all__ = ["view"]

_SHOWN: Final = ("mode", "ports", "combining", "notification", "driver", "link", "doorbell", "hlt")
_REASONS: Final = ("io", "hlt", "irq", "tick", "send")
_PORTS: Final = 6
_LABEL: Final = 15  # columns of a line's label
_BETWEEN: Final = " " * 5  # two tables side by side

Emphasis = Callable[[str], str]


def view(name: str, settings: Mapping[str, Any], status: Mapping[str, Any], rates: Rates, bold: Emphasis) -> list[str]:
    """The lines for one interval, none wider than the screen; ``bold`` marks a heading.

    ``status``: the answer at the interval's end.
    """
    return [
        *map(bold, _heading(name, settings, rates, cable=status.get("cable", True))),
        "",
        *_counts(rates),
        _switch_times(status["world_switch_ns"]),
        "",
        *_times(rates),
        "",
        *_ports(rates.ports, bold),
    ]


def _heading(name: str, settings: Mapping[str, Any], rates: Rates, *, cable: bool) -> list[str]:
    """First what is not as usual; last the interval that was measured, which may be longer than the one asked for."""
    words = [text for said, text in ((not cable, "CABLE PULLED"), (rates.anew, "COUNTERS BEGAN ANEW")) if said]
    chosen = {key: settings.get(key) for key in _SHOWN}
    words += [f"{key} {_switch(value)}" for key, value in chosen.items() if value is not None]
    words += [f"CPU {','.join(map(str, settings['cpus']))}", f"over {rates.seconds:.2f} s"]
    return fields(words, label=f"stack {name}   ", gap="  ")


def _switch(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _row(label: str, figure: str, *others: str) -> list[str]:
    """A rate, and beside it or below it what belongs to it."""
    return fields(others, label=f"{label:<{_LABEL}}{figure}   ")


def _counts(rates: Rates) -> Iterator[str]:
    count = rates.counters
    yield from _row(
        "port traps",
        f"{io_traps(count):>10,.0f} /s",
        f"in the vmm {count['io_handled_in_vmm']:,.0f}",
        f"switched {count['io_switched']:,.0f}",
        f"RAP without a trap {count['rap_stores']:,.0f}",
    )
    reasons = (f"{reason} {count[f'switches_for_{reason}']:,.0f}" for reason in _REASONS)
    yield from _row("world switches", f"{count['world_switches']:>10,.0f} /s", *reasons)
    yield from _row(
        "interrupts",
        f"{count['irqs_raised']:>10,.0f} /s",
        f"host interrupts {count['host_irqs']:,.0f}",
        f"select() {count['selects']:,.0f}",
    )
    for label, frames, rate, also in (
        ("sent", count["tx_frames"], rates.sent_mbps, f"combined {count['sends_combined']:,.0f}"),
        ("received", count["rx_frames"], rates.received_mbps, f"missed {count['rx_missed']:,.0f}"),
    ):
        yield from _row(label, f"{frames:>10,.0f} frames/s {rate:>9,.2f} Mb/s", also)


def _switch_times(times: Mapping[str, int | None]) -> str:
    p50, p99, samples = times["p50"], times["p99"], times["samples"]
    if p50 is None or p99 is None or samples is None:
        return "switch time    -"
    last = f"median of the last {samples}, one way"
    return f"switch time    {p50 / 1000:>10,.1f} us   {tail_label(samples)} {p99 / 1000:,.1f} us   ({last})"


def _times(rates: Rates) -> Iterator[str]:
    yield f"{'time':<{_LABEL}}guest idle {rates.guest_idle:>4.0%}   host world {rates.host_world:>4.0%}"
    yield from fields((f"{role} {percent:>3.0f}%" for role, percent in rates.cpu.items()), label=f"{'CPU':<{_LABEL}}")


def _ports(ports: tuple[PortRate, ...], bold: Emphasis) -> Iterator[str]:
    """Two rankings side by side, or, where the screen is too narrow, one below the other."""
    by_time = sorted(ports, key=lambda port: port.share, reverse=True)[:_PORTS]
    by_count = sorted(ports, key=lambda port: port.per_second, reverse=True)[:_PORTS]
    slow = [f"{port.name:<18}{port.share:>6.1%}{port.ns_each / 1000:>11,.1f}" for port in by_time]
    frequent = [f"{port.name:<18}{port.per_second:>12,.0f}" for port in by_count]
    heads = f"{'ports by time':<18}{'time':>6}{'us each':>11}", f"{'ports by count':<18}{'accesses/s':>12}"
    if screen_width() >= len(_BETWEEN.join(heads)):
        yield bold(_BETWEEN.join(heads))
        yield from map(_BETWEEN.join, zip(slow, frequent, strict=True))
    else:
        for head, lines in zip(heads, (slow, frequent), strict=True):
            yield bold(head)
            yield from lines
