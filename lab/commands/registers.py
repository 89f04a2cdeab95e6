"""``worldswitch registers``: the Lance's registers and ring positions, decoded, as they are at that moment."""

from __future__ import annotations

import argparse
from typing import Final

from lab import client
from lab.options import add_name
from lab.textlayout import wrapped

__all__ = ["configure", "run"]

_MARGIN: Final = 18  # where a register's meaning begins, after its name and value


def configure(parser: argparse.ArgumentParser) -> None:
    """Which stack."""
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    """0; the chip goes on while it is read, so a busy one may change between two lines."""
    text = str(client.request(args.name, {"command": "registers"})["text"])
    print("\n".join(wrapped(line, hanging=" " * _MARGIN) for line in text.splitlines()))
    return 0
