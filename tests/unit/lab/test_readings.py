"""Formulas behind printed figures: each is right, and stands in one place only."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import demoguest, readings
from lab.bench import qemuload, transfer
from lab.readings import grown, growth, idle_share, mbps, percentile, quotient, tail_label
from lab.reporting import sections
from tests.kit.benches import LONE_PACKET

LAB = Path(readings.__file__).parent
COUNTED = {"tx_frames", "rx_frames", "io_in", "io_out", "irqs_raised", "world_switches", "pic_accesses", "rap_stores"}
WORD = 1 << 64


def test_percentiles_are_nearest_ranks():
    """Of 1 to 100 the p99 is 99, not the greatest; of few values the last; of one that one."""
    hundred = list(range(100, 0, -1))
    assert [percentile(hundred, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([5, 1], 99) == 5
    assert percentile([7], 1) == 7


@given(st.lists(st.integers(-1000, 1000), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values, percent):
    """By its definition: enough values are not above it, and of any smaller value that is not so."""
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= len(values) * percent
    assert all(sum(v <= less for v in values) * 100 < len(values) * percent for less in values if less < found)


def test_a_tail_is_named_by_what_it_is():
    """The p99 of fewer than a hundred values is the slowest of them, and is called so."""
    assert [tail_label(count) for count in (0, 20, 99, 100, 5000)] == ["slowest"] * 3 + ["p99"] * 2
    assert [tail_label(count, 50) for count in (1, 2)] == ["slowest", "p50"]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [(5, 9, 4), (0, 0, 0), (WORD - 3, 2, 5), (1000, 3, None), (7, 6, None)],
)
def test_growth_of_a_word_of_64_bits(before, after, found):
    """A word that has passed 2**64 grew; one that is less than it was began anew."""
    assert growth(before, after) == found


def test_a_counter_that_began_anew_is_seen_in_what_grew():
    """Its difference is negative, so that nobody takes it for a count."""
    assert grown({"a": 5, "b": 9, "gone": 1}, {"a": 7, "b": 2, "new": 3}) == {"a": 2, "b": -7}


def test_no_time_gives_no_rate():
    """Neither an exception nor a figure of astronomers."""
    assert mbps(1000, 0.0) == idle_share(1000, 0.0) == 0.0
    assert mbps(1_250_000, 1.0) == 10.0
    assert idle_share(3e9, 1.0) == 1.0


def test_a_quotient_needs_something_below():
    """Of medians; none if there is nothing, or zero, to divide by."""
    assert quotient([1.0, 9.0, 2.0], [4.0]) == 0.5
    assert quotient([], [1.0]) is quotient([1.0], []) is quotient([1.0], [0.0]) is None
    assert sections.ratio([1.0], [0.0]) == "-"


def test_all_say_the_same_of_a_packet():
    """The paper's 12 accesses, by benchmark and demonstration; accesses to the 8259A pair are not among them."""
    spent = LONE_PACKET | {"idle_ns": 0}
    assert readings.port_accesses(spent) == 12
    assert transfer.per_packet is readings.per_packet
    assert qemuload.per_packet is readings.each_packet
    assert demoguest._cost(dict.fromkeys(spent, 0), spent)[1:3] == ["12", "12.00"]
    two = readings.per_packet(spent, 2)
    assert two["port_accesses_per_packet"] == 6
    assert two["pic_accesses_per_irq"] == 5


def modules() -> list[Path]:
    """All of lab but the one place."""
    return [path for path in sorted(LAB.rglob("*.py")) if path.name != "readings.py"]


def counters_in(node: ast.AST) -> set[str]:
    """Counters that are looked up by name within an expression."""
    keys = (one.slice for one in ast.walk(node) if isinstance(one, ast.Subscript))
    return {key.value for key in keys if isinstance(key, ast.Constant) and key.value in COUNTED}


def formulas(tree: ast.AST) -> list[int]:
    """Lines that divide by or with counters, add two of them up, or take the middle of something themselves."""
    found = []
    for node in ast.walk(tree):
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and counters_in(node)
        adds = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and len(counters_in(node)) > 1
        imports = isinstance(node, ast.Import) and any(alias.name == "statistics" for alias in node.names)
        if divides or adds or imports:
            found.append(node.lineno)
    return found


def constants(tree: ast.AST) -> list[int]:
    """Lines that say again which port RDP or RAP is, which directions there are, or what counts as lost."""
    lists = (set(readings.DIRECTIONS), set(readings.LOST))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List):
            values = {one.value for one in node.elts if isinstance(one, ast.Constant)}
            found += [node.lineno] if len(values) == len(node.elts) and values in lists else []
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            numbers = [one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)]
            if node.target.id.strip("_") in ("RDP", "RAP") and (0x10 in numbers or 0x12 in numbers):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(LAB)))
def test_no_other_place_has_a_formula(path):
    """One figure, one formula: nothing else in lab divides counters, adds them up, or knows what is lost."""
    tree = ast.parse(path.read_text())
    assert not formulas(tree)
    assert not constants(tree)


def test_the_search_sees_what_it_forbids():
    """A planted formula of each kind is found."""
    assert formulas(ast.parse("x = spent['io_in'] / n"))
    assert formulas(ast.parse("x = a['tx_frames'] + a['rx_frames']"))
    assert formulas(ast.parse("import statistics"))
    assert constants(ast.parse("_RAP: Final = 0x12"))
    assert constants(ast.parse("x = ('transmit', 'receive')"))
    assert statistics.median([1, 3]) == readings.median([1, 3])
