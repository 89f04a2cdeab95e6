"""The documentation against the code: paths, functions, commands, benchmarks and settings that it names exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from lab.bench import BENCHES
from lab.cli import COMMANDS
from lab.livechange import LIVE
from machine.config import Settings

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
LINK = re.compile(r"\[(`?)([^\]`]+)`?\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\bworldswitch ([a-z]+)(?: ([a-z]+))?")
SETTING = re.compile(r"worldswitch set ((?:[a-z_]+=[^\s`]+ ?)+)")
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
EXPERIMENTS = set(BENCHES) - {"combining"}  # which is part of the page on throughput


def links(page: Path) -> list[tuple[bool, str, str]]:
    """(whether its text is code, text, target) of every link to a file of the repository."""
    found = LINK.findall(page.read_text())
    return [(bool(code), text, target.split("#")[0]) for code, text, target in found if "://" not in target]


def commands(page: Path) -> list[tuple[str, str]]:
    """(command, word that follows it) of every command line on the page: in code, where a command is one."""
    text = page.read_text()
    code = re.findall(r"`([^`\n]+)`|^ {4}(.+)$", text, re.MULTILINE)
    return [found for pair in code for line in pair for found in COMMAND.findall(line)]


@cache
def defined(path: Path) -> frozenset[str]:
    """Names that a module defines: functions, classes, constants, and Class.method."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        names |= named(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for inner in node.body for name in named(inner)}
    return frozenset(names)


def named(node: ast.stmt) -> set[str]:
    """What one statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


@EVERY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file or folder that is there."""
    assert [target for _, _, target in links(page) if target and not (page.parent / target).exists()] == []


@EVERY_PAGE
def test_functions_are_where_the_page_says(page: Path) -> None:
    """A link whose text is code and whose target is a module names something that the module defines."""
    code = [(text, page.parent / target) for is_code, text, target in links(page) if is_code and target.endswith(".py")]
    assert [text for text, path in code if text not in defined(path.resolve())] == []


@EVERY_PAGE
def test_commands_exist(page: Path) -> None:
    """Every `worldswitch X` is a command, every `worldswitch bench X` a benchmark."""
    unknown = [name for name, _ in commands(page) if name not in COMMANDS]
    assert unknown == []
    assert [word for name, word in commands(page) if name == "bench" and word and word not in BENCHES] == []


@EVERY_PAGE
def test_settings_exist(page: Path) -> None:
    """What a page sets on a running stack can be set there; what it gives to --set is a setting."""
    text = page.read_text()
    words = [word for group in SETTING.findall(text) for word in group.split()]
    assert [word for word in words if word.split("=")[0] not in LIVE] == []
    started = re.findall(r"--set ([a-z_]+)=", text)
    assert [key for key in started if key not in Settings.__dataclass_fields__] == []


def test_every_experiment_has_its_page() -> None:
    """One page for each benchmark, with its command; none for what is no benchmark."""
    pages = {page.stem: page.read_text() for page in (ROOT / "docs" / "experiments").glob("*.md")}
    assert set(pages) == EXPERIMENTS
    assert [name for name, text in pages.items() if f"worldswitch bench {name} " not in text] == []


def test_tour_names_functions() -> None:
    """The tour is about code: a link to a function for most of its steps."""
    tour = ROOT / "docs" / "tour.md"
    steps = len(re.findall(r"^\d+\. ", tour.read_text(), re.MULTILINE))
    functions = [text for is_code, text, _ in links(tour) if is_code]
    assert len(functions) >= steps > 20


def unproved(text: str) -> list[str]:
    """Claims of a page on security that name no test: rows of its tables, and items of what limits the damage."""
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| boundary")]
    limits = text.partition("## What limits")[2].partition("\n## ")[0]
    items = [item for item in re.split(r"^- ", limits, flags=re.MULTILINE)[1:] if item.strip()]
    return [claim for claim in (*rows, *items) if not re.search(r"\[`[tT]est\w+`\]\(\.\./tests/[\w/]+\.py\)", claim)]


def test_security_claims_are_proved() -> None:
    """Each claim of docs/security.md names a test; that it exists is seen to by the test of links."""
    text = (ROOT / "docs" / "security.md").read_text()
    assert unproved(text) == []
    assert unproved("| boundary | a |\n| ring | x |\n## What limits\n\n- it does\n\n## Not\n\n- this\n") == [
        "| ring | x |",
        "it does\n",
    ]


def test_checks_see_what_is_wrong(tmp_path: Path) -> None:
    """The checks are not vacuous: a page that is wrong in each way is caught."""
    module = tmp_path / "code.py"
    module.write_text("X: int = 1\nclass A:\n    def f(self): ...\n")
    page = tmp_path / "page.md"
    page.write_text("[gone](gone.py) [`A.g`](code.py) `worldswitch fly` `worldswitch bench fly` worldswitch is a name")
    with pytest.raises(AssertionError):
        test_links_lead_somewhere(page)
    with pytest.raises(AssertionError):
        test_functions_are_where_the_page_says(page)
    with pytest.raises(AssertionError):
        test_commands_exist(page)
    assert defined(module) == {"X", "A", "A.f"}
