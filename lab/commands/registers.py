"""``worldswitch registers``: the Lance's registers and ring positions, decoded, as they are at that moment."""

from __future__ import annotations

import argparse

from lab import client
from lab.options import add_name

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Which stack."""
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    """0; the chip goes on while it is read, so a busy one may change between two lines."""
    print(client.request(args.name, {"command": "registers"})["text"])
    return 0
