"""Sections 3.2 and 3.3 of the paper, throughput in each mode; and the limits: 1 Gb/s, no shaping, bare paths."""

from __future__ import annotations

from typing import Final, NamedTuple

from lab.bench import paper
from lab.bench.remarks import beyond_native
from lab.bench.tables import NOTHING, percent, spread
from lab.readings import DIRECTIONS, LOST, median
from lab.reporting.blocks import Bars, Block, Chart, Point, Prose, Section, Series, Table, point
from lab.reporting.results import Collection, Result
from lab.reporting.sections import STOCK, drawn, heading, is_stock, missing, of_guest, ratio, slug
from machine.errors import ConfigError
from netbackend.rate import parse_rate

__all__ = ["limits", "throughput"]

_PAPER_LINK: Final = "100mbit"
_BARE: Final = ("relay", "vde")
_FULL: Final = 0.98  # of native: from there on we say that a configuration fills the wire
_VERBS: Final = {"transmit": "sending", "receive": "receiving"}
_METRICS: Final = ("traps_per_packet", "world_switches_per_packet", "irqs_per_packet")
_HEADER: Final = (
    "configuration",
    "direction",
    "Mb/s",
    "Mb/s",
    "of native",
    "iperf3, Mb/s",
    "idle, %",
    "traps a packet",
    "switches a packet",
    "IRQs a packet",
    "frames lost",
    "retransmits",
)
_PAPER_COLUMN: Final = 2


class _Series(NamedTuple):
    """One link with one profile: what is compared with each other."""

    result: Result
    link: str
    profile: str

    def values(self, configuration: str, direction: str, metric: str) -> list[float]:
        """The samples of one metric."""
        return self.result.values(
            configuration=configuration, direction=direction, metric=metric, link=self.link, profile=self.profile
        )

    def goodput(self, configuration: str, direction: str) -> list[float]:
        """Mb/s of TCP payload."""
        return self.values(configuration, direction, "goodput_mbps")

    @property
    def configurations(self) -> list[str]:
        """What was measured, in that order."""
        return self.result.distinct("configuration", link=self.link, profile=self.profile)

    @property
    def is_papers(self) -> bool:
        """The paper's wire and machine: its figures may stand beside ours."""
        return self.link == _PAPER_LINK and self.profile == "paper" and not is_stock(self.result)

    @property
    def title(self) -> str:
        return f"link {self.link}, profile {self.profile}{of_guest(self.result)}"


def _every(result: Result) -> list[_Series]:
    return [
        _Series(result, link, profile)
        for link in result.distinct("link")
        for profile in result.distinct("profile", link=link)
    ]


def throughput(found: Collection) -> Section:
    """The paper's comparison, on the paper's kind of machine and wire (profile ``paper``)."""
    section = Section("throughput", "Throughput", "sections 3.2 and 3.3")
    _fill(section.blocks, found, papers=True)
    return section


def limits(found: Collection) -> Section:
    """How far it goes: profile ``fast``, faster wires, and what only copies frames."""
    section = Section("limits", "Limits: profile fast, 1 Gb/s, no shaping", "not in the paper")
    _fill(section.blocks, found, papers=False)
    return section


def _fill(blocks: list[Block], found: Collection, *, papers: bool) -> None:
    results = found.of("throughput")
    wanted = [(result, [s for s in _every(result) if (s.profile == "paper") == papers]) for result in results]
    wanted = [(result, every) for result, every in wanted if every]
    if not wanted:
        blocks.append(missing("throughput", "" if papers else " --link none"))
    for result, every in wanted:
        number = next(n for n, other in enumerate(results) if other is result)
        blocks += heading(result, results)
        for series in every:
            blocks += [_table(series), *drawn(result, _chart(series, number)), *_explained(series)]


def _table(series: _Series) -> Table:
    rows = [
        _row(series, configuration, direction) for direction in DIRECTIONS for configuration in series.configurations
    ]
    return Table(
        f"TCP in operations of {paper.OPERATION_BYTES} bytes, {series.title}",
        _HEADER,
        [row for row in rows if row[3] != NOTHING],
        frozenset({_PAPER_COLUMN}),
    )


def _row(series: _Series, configuration: str, direction: str) -> list[str]:
    goodput = series.goodput(configuration, direction)
    lost = [value for metric in LOST for value in series.values(configuration, direction, metric)]
    quoted = series.is_papers and direction == "transmit"
    return [
        configuration,
        direction,
        paper.THROUGHPUT_MBPS.get(configuration, NOTHING) if quoted else NOTHING,
        spread(goodput),
        ratio(goodput, series.goodput("native", direction), 3),
        spread(series.values(configuration, direction, "iperf3_mbps")),
        percent(series.values(configuration, direction, "idle_share")),
        *(spread(series.values(configuration, direction, metric), 2) for metric in _METRICS),
        f"{sum(lost):.0f}" if lost else NOTHING,
        spread(series.values(configuration, direction, "retransmits"), 0),
    ]


def _chart(series: _Series, number: int) -> Chart:
    names = series.configurations
    bars = [Series(d, [point(series.goodput(name, d)) for name in names]) for d in DIRECTIONS]
    if series.is_papers:
        bars.append(Series("transmit, paper", [_papers_point(name) for name in names], paper=True))
    return Chart(
        slug("throughput", number + 1, series.link, series.profile),
        f"Throughput, {series.title}",
        "Goodput of TCP in each configuration, both ways; whiskers reach from the least to the most.",
        Bars(names, bars, "Mb/s", _wire(series.link)),
    )


def _papers_point(configuration: str) -> Point | None:
    """The paper's figure where it is a number; of the others it says that they fill the wire."""
    try:
        value = float(paper.THROUGHPUT_MBPS[configuration])
    except (KeyError, ValueError):
        return None
    return Point(value, value, value)


def _wire(link: str) -> tuple[float, str] | None:
    try:
        rate = parse_rate(link)
    except ConfigError:
        return None
    return None if rate is None else (rate / 1e6, "the wire")


def _explained(series: _Series) -> list[Block]:
    """What the paper says of it, what was found, and what makes the difference; as far as the figures go."""
    sentences = [_against(series, "optimised", base) for base in ("native", *_BARE)]
    if series.is_papers:
        sentences = ["The paper: optimised equals native, and ports alone fills the wire.", *sentences]
        sentences += [_against(series, "ports", "native"), _why_not_full(series)]
    sentences.append(_bound(series))
    if is_stock(series.result):
        sentences.append(STOCK)
    if series.is_papers:
        sentences.append(
            "The paper's processor ran at 733 MHz, and a world switch replaced the whole processor state; here it is a "
            "handoff between processes, so shares and ratios can be compared, absolute figures can't."
        )
    for direction in DIRECTIONS:
        found = {f"{name}, {direction}": series.goodput(name, direction) for name in series.configurations}
        sentences += [
            f"{line}." for line in beyond_native(found, series.goodput("native", direction), more_is_better=True)
        ]
    text = " ".join(sentence for sentence in sentences if sentence)
    return [Prose(text)] if text else []


def _why_not_full(series: _Series) -> str:
    """Where ports leaves the wire idle: an access that it keeps in the vmm is still a trap."""
    goodput, native = series.goodput("ports", "transmit"), series.goodput("native", "transmit")
    traps = series.values("ports", "transmit", "traps_per_packet")
    if not goodput or not native or not traps or median(goodput) >= _FULL * median(native):
        return ""
    return (
        f"With ports, {median(traps):.1f} traps a packet are left, each a handoff between processes, where the paper's "
        "stayed on one processor: that is why it does not fill the wire here."
    )


def _against(series: _Series, configuration: str, base: str) -> str:
    pairs = {d: (series.goodput(configuration, d), series.goodput(base, d)) for d in DIRECTIONS}
    found = [f"{ratio(*pair, 3)} {_VERBS[d]}" for d, pair in pairs.items() if all(pair)]
    return f"Here, {configuration} reaches {' and '.join(found)} of {base}." if found else ""


def _bound(series: _Series) -> str:
    """Whether 2.0 is limited by the processor, which is what the paper is about."""
    goodput = series.goodput("2.0", "transmit")
    idle = series.values("2.0", "transmit", "idle_share")
    if not goodput or not idle:
        return ""
    share = ratio(goodput, series.goodput("native", "transmit"))
    said = f"2.0 sends {median(goodput):.1f} Mb/s, {share} of native, with {median(idle):.1%} of the CPU idle: "
    if median(idle) < paper.CPU_BOUND_IDLE:
        return said + "it is CPU-bound."
    return said + "it is not CPU-bound; a faster wire would show where it is (`worldswitch bench idle --link RATE`)."
