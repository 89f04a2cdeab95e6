"""The page on vfio-user against the tables."""

from __future__ import annotations

from pathlib import Path

from vmm.vfiouser.messages import MESSAGES, Command
from vmm.vfiouser.reference import markdown, renewed

PAGE = Path(__file__).parents[3] / "docs" / "vfio-user.md"


def test_page_is_current() -> None:
    """The generated part of docs/vfio-user.md is what the tables generate."""
    text = PAGE.read_text()
    assert text == renewed(text), "run: python -m vmm.vfiouser.reference docs/vfio-user.md"


def test_every_command_is_in_the_table() -> None:
    """The table has a line for each command of the protocol, offered or not."""
    lines = [line for line in markdown().splitlines() if line.startswith("| ")]
    for command in Command:
        (line,) = [line for line in lines if line.startswith(f"| {command.value} | {command.name} |")]
        assert ("not offered" in line) == (command not in MESSAGES)


def test_every_offered_command_is_explained() -> None:
    """The page says of each offered command what this server does."""
    text = PAGE.read_text()
    explained = text[text.index("## Command by command") :]
    assert not [command.name for command in MESSAGES if command.name not in explained]
