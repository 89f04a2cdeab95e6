"""Round trips through the virtual NIC beside native ones. Not an experiment of the paper."""

from __future__ import annotations

from typing import Final

from lab.bench.machines import NATIVE
from lab.bench.ping import RTT
from lab.bench.tables import NOTHING, spread
from lab.readings import median
from lab.reporting.blocks import Bars, Block, Chart, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import drawn, heading, missing, slug

__all__ = ["ping"]

_MILLISECONDS: Final = 3


def ping(found: Collection) -> Section:
    """Median round trips, warm and cold, by profile."""
    section = Section("ping", "Round trips", "not in the paper")
    results = found.of("ping")
    if not results:
        section.blocks.append(missing("ping"))
    for number, result in enumerate(results, 1):
        section.blocks += heading(result, results)
        for profile in result.distinct("profile"):
            section.blocks += _profile(result, profile, number)
        section.blocks.append(
            Prose(
                "At a request every 5 ms ping itself never sleeps, so that the processor stays awake and its caches "
                "warm; between two requests 200 ms apart everything sleeps. Then native round trips take several times "
                "as long, too: the virtual machine wakes three processes where the native one wakes none, and each of "
                "them finds its interpreter's code and data gone from the caches."
            )
        )
    return section


def _profile(result: Result, profile: str, number: int) -> list[Block]:
    names = result.distinct("configuration", profile=profile)
    paces = result.distinct("pace_ms", profile=profile)

    def times(name: str, pace: float) -> list[float]:
        return result.values(configuration=name, metric=RTT, profile=profile, pace_ms=pace)

    rows = []
    for name in names:
        cells = [name]
        for pace in paces:
            here, native = times(name, pace), times(NATIVE.name, pace)
            above = f"{median(here) - median(native):.{_MILLISECONDS}f}" if here and native else NOTHING
            cells += [spread(here, _MILLISECONDS), above]
        rows.append(cells)
    header = [text for pace in paces for text in (f"every {pace:g} ms", "above native")]
    bars = [Series(f"every {pace:g} ms", [point(times(name, pace)) for name in names]) for pace in paces]
    return [
        Table(f"Round trips in ms, profile {profile}", ("configuration", *header), rows),
        *drawn(
            result,
            Chart(
                slug("ping", number, profile),
                f"Round trips, profile {profile}",
                "Median round trip of an echo request, by configuration and by pace.",
                Bars(names, bars, "ms"),
            ),
        ),
    ]
