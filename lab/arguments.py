"""How arguments are read: every complaint is one line, with what a misspelt word was probably meant to be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from lab.textlayout import screen_width
from machine.errors import ConfigError
from machine.suggestion import did_you_mean

__all__ = ["Parser", "absolute", "seconds", "whole"]

_LONGEST_NUMBER: Final = 30  # digits; Python refuses to read more than 4300, and nobody means them


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the screen. A text with line ends is laid out already, and stays as it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=screen_width() - 1)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(f"{indent}{line}" for line in text.splitlines())
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line each. No option may be shortened: scripts outlive versions."""

    def __init__(self, **kwargs: Any) -> None:
        defaults: dict[str, Any] = {"allow_abbrev": False, "formatter_class": _Formatter}
        super().__init__(**defaults | kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does it, but for a choice that is nearly right."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = did_you_mean(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{hint and f':{hint}'}") from None

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Says which words nobody knows, and which option the first of them is most like."""
        option = next((word.partition("=")[0] for word in words if word.startswith("--")), "")
        hint = did_you_mean(option, self._option_string_actions) if option else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{hint and f':{hint}'}")

    def check_values(self, words: Sequence[str]) -> None:
        """Refuses ``--option=--``, which argparse takes for an option without a value, and then fails over."""
        for word in words:
            option, equals, value = word.partition("=")
            if option.startswith("-") and equals and value == "--":
                self.error(f"argument {option}: '--' is no value")


def seconds(lowest: float, highest: float) -> Callable[[str], float]:
    """The type of an argument that is a time in seconds."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not lowest <= found <= highest:  # false for nan
            raise argparse.ArgumentTypeError(f"{_quoted(text)}: seconds, from {lowest:g} to {highest:g}")
        return found

    return parse


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number."""

    def parse(text: str) -> int:
        try:
            found = int(text) if len(text) <= _LONGEST_NUMBER else None
        except ValueError:
            found = None
        if found is None or not lowest <= found <= highest:
            raise argparse.ArgumentTypeError(f"{_quoted(text)}: a whole number, from {lowest} to {highest}")
        return found

    return parse


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= _LONGEST_NUMBER else f"{text[:_LONGEST_NUMBER]!r}..."


def absolute(path: str | Path) -> Path:
    """``path`` from the root; ConfigError, one line, if it is relative to a directory that is gone."""
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        raise ConfigError(f"cannot find {path}: the working directory was removed; give the whole path") from None
